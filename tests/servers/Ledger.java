import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.FileWriter;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;

/** A ledger over HTTP with a pool of threads; ledger.py says what it does. */
public final class Ledger {
    private static final List<String> entries = new ArrayList<>();
    private static final Map<String, Integer> byThread = new ConcurrentHashMap<>();
    private static FileWriter file;

    private static synchronized String add(String text) throws IOException {
        entries.add(text);
        file.write(text + "\n");
        file.flush();
        return String.valueOf(entries.size());
    }

    private static synchronized String list() {
        StringBuilder all = new StringBuilder();
        entries.forEach(entry -> all.append(entry).append('\n'));
        return all.toString();
    }

    private static String chance() {
        String thread = Thread.currentThread().getName();
        byThread.merge(thread, 1, Integer::sum);
        return new Random().nextLong() + " " + UUID.randomUUID() + " " + ThreadLocalRandom.current().nextLong() + " "
            + System.nanoTime() + " " + System.currentTimeMillis() + " " + System.identityHashCode(new Object()) + " "
            + thread + " " + ProcessHandle.current().pid() + " " + Runtime.getRuntime().availableProcessors() + " "
            + Runtime.getRuntime().totalMemory() + " " + byThread;
    }

    private static String work() {
        Map<String, Integer> words = new HashMap<>();
        for (int number = 0; number < 20000; number++) {
            words.merge("word " + number * 31 % 977, number, Integer::sum);
        }
        List<String> sorted = new ArrayList<>(words.keySet());
        Collections.sort(sorted);
        return String.valueOf(sorted.hashCode() + words.values().stream().mapToInt(x -> x).sum());
    }

    private interface Body {
        String text(HttpExchange exchange) throws IOException;
    }

    private static void on(HttpServer server, String path, Body body) {
        server.createContext(path, exchange -> {
            byte[] bytes = body.text(exchange).getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(200, bytes.length == 0 ? -1 : bytes.length);
            exchange.getResponseBody().write(bytes);
            exchange.close();
        });
    }

    public static void main(String[] arguments) throws IOException {
        file = new FileWriter("ledger", true);
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(arguments[0])), 128);
        on(server, "/add", exchange -> add(new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8)));
        on(server, "/list", exchange -> list());
        on(server, "/chance", exchange -> chance());
        on(server, "/work", exchange -> work());
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }
}
