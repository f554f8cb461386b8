// Java runtime for the tests: the event loop of AWS's documentation of the Runtime API, around the handler that its
// argument names as `CLASS::METHOD`, a method with streams. AWS's own client is not in the registries that the tests use.

import java.io.*;
import java.net.URI;
import java.net.http.*;

public class Runtime {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static final String API = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/";

    public static void main(String[] arguments) throws Exception {
        var names = arguments[0].split("::");
        var handler = Class.forName(names[0]).getConstructor().newInstance();
        var method = handler.getClass().getMethod(names[1], InputStream.class, OutputStream.class);
        for (;;) {
            var event = CLIENT.send(HttpRequest.newBuilder(URI.create(API + "next")).build(), HttpResponse.BodyHandlers.ofByteArray());
            var id = event.headers().firstValue("Lambda-Runtime-Aws-Request-Id").get();
            var output = new ByteArrayOutputStream();
            try {
                method.invoke(handler, new ByteArrayInputStream(event.body()), output);
                post(id + "/response", output.toByteArray());
            } catch (java.lang.reflect.InvocationTargetException failed) {
                var type = failed.getCause().getClass().getSimpleName();
                post(id + "/error", ("{\"errorType\": \"" + type + "\", \"errorMessage\": \"see the log\"}").getBytes());
            }
        }
    }

    static void post(String path, byte[] body) throws Exception {
        var publisher = HttpRequest.BodyPublishers.ofByteArray(body);
        CLIENT.send(HttpRequest.newBuilder(URI.create(API + path)).POST(publisher).build(), HttpResponse.BodyHandlers.discarding());
    }
}
