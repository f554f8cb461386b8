// Lambda function that calls the sidecar over TCP. Handler: Tcp::handle
import java.io.*;
import java.net.URI;
import java.net.http.*;

public class Tcp {
    private final HttpClient client = HttpClient.newHttpClient();
    private final URI uri = URI.create("http://127.0.0.1:" + System.getenv().getOrDefault("MODEL_PORT", "2774") + "/predict");

    /** The event is the request: {"features": [[…]]}. */
    public void handle(InputStream event, OutputStream output) throws Exception {
        var body = HttpRequest.BodyPublishers.ofByteArray(event.readAllBytes());
        var request = HttpRequest.newBuilder(uri).version(HttpClient.Version.HTTP_1_1).POST(body).build();
        var response = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
        if (response.statusCode() != 200) throw new IOException(new String(response.body()));
        output.write(response.body());
    }
}
