// Lambda function that calls the sidecar over its Unix socket. Handler: Unix::handle
import java.io.*;
import java.net.*;
import java.nio.channels.*;

public class Unix {
    /** The event is the request: {"features": [[…]]}. */
    public void handle(InputStream event, OutputStream output) throws Exception {
        var body = event.readAllBytes();
        try (var channel = SocketChannel.open(UnixDomainSocketAddress.of("/tmp/model-sidecar.sock"))) {
            var out = Channels.newOutputStream(channel);
            out.write(("POST /predict HTTP/1.0\r\nHost: localhost\r\nContent-Length: " + body.length + "\r\n\r\n").getBytes());
            out.write(body);
            var parts = new String(Channels.newInputStream(channel).readAllBytes(), "UTF-8").split("\r\n\r\n", 2);
            if (!parts[0].split(" ")[1].equals("200")) throw new IOException(parts[1]);
            output.write(parts[1].getBytes("UTF-8"));
        }
    }
}
