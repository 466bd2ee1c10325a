import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Executors;

/** The sample service in Java, on the JDK's own web server. What it answers is described in ../python/app.py. */
public final class App {
    private static String variable(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null ? otherwise : value;
    }

    private static String readFile(String path) {
        try {
            return Files.readString(Path.of(path)).strip();
        } catch (IOException error) {
            return "error: " + error;
        }
    }

    private static String resolve(String name) {
        try {
            for (InetAddress address : InetAddress.getAllByName(name)) {
                if (address instanceof Inet4Address) {
                    return address.getHostAddress();
                }
            }
            return "error: no IPv4 address";
        } catch (IOException error) {
            return "error: " + error;
        }
    }

    private static String query(HttpExchange exchange, String name) {
        String query = exchange.getRequestURI().getRawQuery();
        for (String pair : (query == null ? "" : query).split("&")) {
            if (pair.startsWith(name + "=")) {
                return URLDecoder.decode(pair.substring(name.length() + 1), StandardCharsets.UTF_8);
            }
        }
        return "";
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private static void answer(HttpExchange exchange, Map<String, Object> fields) throws IOException {
        StringBuilder out = new StringBuilder("{");
        fields.forEach((name, value) -> out.append(out.length() > 1 ? ", " : "").append(quoted(name)).append(": ")
                .append(value instanceof String text ? quoted(text) : value));
        byte[] body = out.append('}').toString().getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(200, body.length);
        try (exchange) {
            exchange.getResponseBody().write(body);
        }
    }

    private static void say(HttpExchange exchange) throws IOException {
        String text = query(exchange, "text");
        String client = exchange.getRemoteAddress().getAddress().getHostAddress();
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("text", text);
        fields.put("greeting", variable("SAMPLE_GREETING", ""));
        fields.put("file", readFile(variable("SAMPLE_FILE", "/etc/sample/banner.txt")));
        fields.put("address", resolve(variable("SAMPLE_NAME", "localhost")));
        fields.put("hostname", InetAddress.getLocalHost().getHostName());
        fields.put("client", client);
        fields.put("pid", ProcessHandle.current().pid());
        fields.put("program", "java");
        answer(exchange, fields);
    }

    private static void call(HttpExchange exchange) throws IOException {
        Map<String, Object> fields = new LinkedHashMap<>();
        try {
            HttpRequest request = HttpRequest.newBuilder(URI.create(query(exchange, "url"))).timeout(Duration.ofSeconds(10)).build();
            HttpResponse<String> got = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            fields.put("status", got.statusCode());
            fields.put("body", got.body());
        } catch (IOException | InterruptedException | IllegalArgumentException error) {
            fields.put("error", error.toString());
        }
        answer(exchange, fields);
    }

    public static void main(String[] args) throws IOException {
        int port = Integer.parseInt(variable("PORT", "80"));
        HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", port), 16);
        server.createContext("/say", App::say);
        server.createContext("/call", App::call);
        server.createContext("/healthz", exchange -> answer(exchange, Map.of("ok", true)));
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("sample service on port " + port);
    }
}
