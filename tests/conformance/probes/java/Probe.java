// The probe in Java: `Probe NAME=VALUE... CASE...` does each case and prints what it saw, one line of JSON each.

import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.RandomAccessFile;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.StandardWatchEventKinds;
import java.nio.file.WatchService;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

public class Probe {
    interface Action { Object run() throws Exception; }

    static final Map<String, String> arguments = new HashMap<>();
    static Map<String, String> seen;

    static String arg(String name) { return arguments.get(name); }
    static Path dir(String name) { return Path.of(arg("dir") + "/" + name); }
    static Path near(String name) { return Path.of(arg("local") + "/" + name); }
    static int port(String name) { return Integer.parseInt(arg(name)); }
    static void saw(String key, Object value) { seen.put(key, String.valueOf(value)); }

    /** Notes what the action gives, or its exception: Java has no errnos, but their texts. */
    static void does(String key, Action action) {
        try {
            Object got = action.run();
            saw(key, got == null ? "ok" : got);
        } catch (FileSystemException error) {
            saw(key, error.getClass().getSimpleName() + " " + error.getReason());
        } catch (Exception error) {
            saw(key, error.getClass().getSimpleName() + " " + error.getMessage());
        }
    }

    static String read(Path path) throws IOException { return Files.readString(path).stripTrailing(); }

    static String start(ByteBuffer buffer, int at) {
        byte[] piece = new byte[40];
        for (int i = 0; i < piece.length; i++) piece[i] = buffer.get(at + i);
        return new String(piece, StandardCharsets.UTF_8);
    }

    static String listed(Path folder) throws IOException {
        try (Stream<Path> entries = Files.list(folder)) {
            return new TreeSet<>(entries.map(entry -> entry.getFileName() + " " + Files.isDirectory(entry)).toList()).toString();
        }
    }

    static void talk(Socket socket, String what) throws IOException {
        socket.setSoTimeout(5000);
        BufferedReader reader = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
        String[] words = reader.readLine().split(" ");
        saw(what + ": greeting", words[0] + " " + words[1]);
        saw(what + ": own", socket.getLocalAddress().getHostAddress() + " " + words[2].equals("" + socket.getLocalPort()) + " " + socket.getInetAddress().getHostAddress());
        socket.getOutputStream().write("over and back\n".getBytes());
        saw(what + ": echo", reader.readLine());
        socket.shutdownOutput();
        saw(what + ": end", reader.readLine() + " " + reader.readLine());
        socket.close();
    }

    static void dialed(String host, int port, String what) {
        does(what, () -> {
            Socket socket = new Socket();
            socket.connect(new InetSocketAddress(host, port), 5000);
            talk(socket, what);
            return null;
        });
    }

    static void met(ServerSocket server, String what) {
        does(what, () -> {
            server.setSoTimeout(8000);
            try (Socket socket = server.accept()) {
                socket.setSoTimeout(5000);
                String[] words = new BufferedReader(new InputStreamReader(socket.getInputStream())).readLine().split(" ");
                socket.getOutputStream().write("bye\n".getBytes());
                return socket.getInetAddress().getHostAddress() + " " + words[1].equals("" + socket.getPort()) + " "
                    + socket.getLocalAddress().getHostAddress() + " " + (socket.getLocalPort() == port("serve"));
            }
        });
    }

    static String lookedUp(String name) throws IOException {
        return new TreeSet<>(Arrays.stream(InetAddress.getAllByName(name)).map(InetAddress::getHostAddress).toList()).toString();
    }

    static boolean doCase(int number) throws Exception {
        switch (number) {
            case 1 -> {
                does("content", () -> read(dir("file")));
                does("stream", () -> {
                    try (FileInputStream stream = new FileInputStream(dir("file").toFile())) { return new String(stream.readNBytes(7)) + stream.available(); }
                });
            }
            case 5 -> {
                does("one", () -> read(dir("sub/../file")));
                does("two", () -> read(dir("sub/deep/../../file")));
                does("slashes", () -> read(dir("./sub//deep/./leaf")));
                does("through none", () -> read(dir("none/../file")));
            }
            case 6 -> {
                Path there = dir("../../../../../../../.." + near("near"));
                does("content", () -> read(there));
                does("size", () -> Files.size(there));
                does("none", () -> read(dir("../../../../../../../../none-of-that-name")));
            }
            case 7 -> {
                does("content", () -> read(dir("link")));
                does("text", () -> Files.readSymbolicLink(dir("link")));
                does("no link", () -> Files.readSymbolicLink(dir("file")));
                does("link", () -> Files.isSymbolicLink(dir("link")));
                does("below a link", () -> read(dir("dirlink/deep/leaf")));
                does("not followed", () -> Files.newByteChannel(dir("link"), StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS));
            }
            case 8 -> {
                does("in the volume", () -> read(dir("abslink")));
                does("out of it", () -> read(dir("outlink")));
                does("dangling", () -> read(dir("dangling")));
            }
            case 9 -> {
                TreeSet<String> found = new TreeSet<>();
                for (long end = System.nanoTime() + 5_000_000_000L; found.size() < 2 && System.nanoTime() < end; Thread.sleep(5)) found.add(read(dir("config/version")));
                saw("seen", found);
                does("stable", () -> read(dir("config/stable")));
            }
            case 10 -> {
                does("list", () -> listed(dir("tree")));
                does("walk", () -> {
                    try (Stream<Path> all = Files.walk(dir("tree"))) { return all.count(); }
                });
                does("File.list", () -> new TreeSet<>(Arrays.asList(dir("tree").toFile().list())));
                does("real path", () -> dir("dirlink/../link").toRealPath());
                does("canonical", () -> new File(dir("dirlink").toString(), "../link").getCanonicalPath());
                does("temporary", () -> {
                    Files.delete(Files.createTempFile(near(""), "made", ""));
                    return null;
                });
            }
            case 12 -> {
                try (FileChannel channel = FileChannel.open(dir("file"))) {
                    ByteBuffer piece = ByteBuffer.allocate(7);
                    does("read at", () -> channel.read(piece, 1));
                    saw("text", new String(piece.array()));
                    ByteBuffer[] parts = {ByteBuffer.allocate(4), ByteBuffer.allocate(4)};
                    does("scattered", () -> channel.read(parts) + new String(parts[0].array()) + "+" + new String(parts[1].array()));
                    does("beyond", () -> channel.read(ByteBuffer.allocate(4), 1 << 20));
                    does("size", channel::size);
                }
            }
            case 13 -> {
                try (FileChannel channel = FileChannel.open(dir("block"))) {
                    ByteBuffer shared = channel.map(FileChannel.MapMode.READ_ONLY, 0, 65536), own = channel.map(FileChannel.MapMode.PRIVATE, 0, 65536);
                    own.put(0, (byte) '#');
                    saw("text", start(own, 0) + start(shared, 0) + start(shared, 32768));
                } catch (Exception error) {
                    saw("mapping", error.getClass().getSimpleName());
                }
            }
            case 17 -> {
                for (int round = 0; round < 2; round++) {
                    String[] names = dir("many").toFile().list();
                    saw("round " + round, names == null ? "none" : names.length + " " + new TreeSet<>(Arrays.asList(names)).first());
                }
            }
            case 18 -> {
                does("ENOENT", () -> read(dir("none")));
                does("ENOTDIR", () -> read(dir("file/x")));
                does("EISDIR", () -> new RandomAccessFile(dir("sub").toFile(), "rw"));
                does("ELOOP", () -> read(dir("loop")));
                does("ENAMETOOLONG", () -> read(dir("x".repeat(299))));
                does("EACCES", () -> read(dir("closed")));
                saw("may", Files.isReadable(dir("file")) + " " + Files.isExecutable(dir("file")) + " " + Files.exists(dir("none")));
            }
            case 19 -> {
                Path name = Path.of(arg("ro"), "banner.txt"), other = Path.of(arg("ro"), "new");
                does("write", () -> Files.writeString(name, "x"));
                does("append", () -> Files.writeString(name, "x", StandardOpenOption.APPEND));
                does("new", () -> Files.createFile(other));
                does("mkdir", () -> Files.createDirectory(other));
                does("delete", () -> Files.deleteIfExists(name));
                does("move", () -> Files.move(name, other, StandardCopyOption.ATOMIC_MOVE));
                saw("writable", Files.isWritable(name));
                does("content", () -> read(name));
            }
            case 20 -> {
                Path name = dir("w-" + arg("name"));
                does("new", () -> Files.writeString(name, "first line\n", StandardOpenOption.CREATE_NEW));
                does("again", () -> Files.createFile(name));
                does("append", () -> Files.writeString(name, "second\n", StandardOpenOption.APPEND));
                does("both", () -> read(name));
                does("size", () -> Files.size(name));
                does("cut", () -> {
                    try (FileChannel channel = FileChannel.open(name, StandardOpenOption.WRITE)) { channel.truncate(3).force(true); }
                    return read(name);
                });
                does("delete", () -> Files.deleteIfExists(name));
                does("gone", () -> read(name));
            }
            case 23 -> {
                Path name = near("sent-" + arg("name"));
                does("copy", () -> Files.size(Files.copy(dir("block"), name, StandardCopyOption.REPLACE_EXISTING)));
                does("transfer", () -> {
                    try (FileChannel from = FileChannel.open(dir("block")); FileChannel to = FileChannel.open(name, StandardOpenOption.WRITE)) {
                        return from.transferTo(0, 65536, to) + read(name).substring(0, 40);
                    }
                });
                Files.deleteIfExists(name);
            }
            case 24 -> {
                try (FileChannel channel = FileChannel.open(dir("file"))) {
                    does("shared", () -> {
                        try (FileLock lock = channel.tryLock(0, 4, true)) { return lock.isValid(); }
                    });
                }
            }
            case 25 -> {
                try (FileChannel channel = FileChannel.open(dir("big"))) {
                    ByteBuffer piece = ByteBuffer.allocate(32);
                    does("size", channel::size);
                    does("far in", () -> channel.read(piece, (4L << 30) + 123) + new String(piece.array()).replace("\0", ""));
                }
            }
            case 26 -> {
                does("size", () -> Files.size(Path.of(arg("sizeless"))));
                does("content", () -> read(Path.of(arg("sizeless"))));
            }
            case 30 -> {
                try (WatchService service = dir("").getFileSystem().newWatchService()) {
                    does("watch", () -> dir("config").register(service, StandardWatchEventKinds.ENTRY_CREATE) == null);
                    saw("told", "false".equals(seen.get("watch")) && service.poll(2, TimeUnit.SECONDS) != null);
                }
                try (WatchService service = dir("").getFileSystem().newWatchService()) {
                    does("watch near", () -> near("").register(service, StandardWatchEventKinds.ENTRY_CREATE) == null);
                    Path name = Files.createFile(near("watched-" + arg("name")));
                    saw("told of near", service.poll(2, TimeUnit.SECONDS) != null);
                    Files.delete(name);
                }
            }
            case 33 -> dialed(arg("host"), port("echo"), "tcp");
            case 34 -> {
                try (Selector selector = Selector.open(); SocketChannel channel = SocketChannel.open()) {
                    channel.configureBlocking(false);
                    channel.register(selector, SelectionKey.OP_CONNECT);
                    does("connect", () -> channel.connect(new InetSocketAddress(arg("host"), port("echo"))) || selector.select(5000) == 1 && channel.finishConnect());
                    channel.register(selector, SelectionKey.OP_READ);
                    selector.selectedKeys().clear();
                    saw("readable", selector.select(5000));
                    ByteBuffer piece = ByteBuffer.allocate(200);
                    does("read", () -> channel.read(piece) > 0);
                    String[] words = new String(piece.array()).trim().split(" ");
                    saw("greeting", words[0] + " " + words[1] + " " + words[2].equals("" + ((InetSocketAddress) channel.getLocalAddress()).getPort()));
                }
            }
            case 35 -> {
                dialed(arg("host"), port("refused"), "refused");
                dialed(arg("unreachable"), 9, "unreachable");
            }
            case 36 -> {
                try (Socket socket = new Socket(arg("host"), port("echo"))) {
                    saw("names", socket.getLocalAddress().getHostAddress() + " " + socket.getRemoteSocketAddress().toString().endsWith(":" + arg("echo")));
                }
            }
            case 37 -> {
                dialed(arg("host6"), port("echo"), "IPv6");
                dialed("::ffff:" + arg("host"), port("echo"), "mapped");
            }
            case 39 -> {
                for (String host : List.of("host", "host6"))
                    try (DatagramSocket socket = new DatagramSocket()) {
                        socket.setSoTimeout(3000);
                        DatagramPacket answer = new DatagramPacket(new byte[200], 200);
                        does(host, () -> {
                            socket.send(new DatagramPacket("two".getBytes(), 3, new InetSocketAddress(arg(host), port("udp"))));
                            socket.receive(answer);
                            return new String(answer.getData(), 0, answer.getLength()) + " " + answer.getAddress().getHostAddress() + " " + (answer.getPort() == port("udp"));
                        });
                    }
            }
            case 41 -> {
                for (int port : new int[] {80, 0, port("serve")})
                    does("listen " + (port > 80 ? "serve" : port), () -> {
                        try (ServerSocket server = new ServerSocket(port)) { return port == 0 || server.getLocalPort() == port; }
                    });
            }
            case 42 -> {
                try (ServerSocket server = new ServerSocket(port("serve"))) {
                    met(server, "first");
                    met(server, "second");
                } catch (SocketTimeoutException error) {
                    saw("nobody", "came");
                }
            }
            case 50 -> {
                does("all", () -> lookedUp(arg("known")));
                does("with a dot", () -> lookedUp(arg("whole")));
            }
            case 54 -> {
                does("short", () -> lookedUp(arg("short")));
                does("with one dot", () -> lookedUp(arg("one-dot")));
            }
            case 55 -> {
                does("unknown", () -> lookedUp(arg("unknown")));
                does("only IPv6", () -> lookedUp(arg("known6")));
                does("too many for one datagram", () -> lookedUp(arg("crowd")));
            }
            case 56 -> {
                does("in hosts", () -> lookedUp(arg("in-hosts")));
                does("own", () -> InetAddress.getLocalHost().getHostName());
            }
            case 58 -> does("name", () -> InetAddress.getByName(arg("reverse")).getCanonicalHostName());
            default -> { return false; }
        }
        return true;
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            if (letter == '"' || letter == '\\') out.append('\\').append(letter);
            else if (letter < ' ' || letter > '~') out.append(String.format("\\u%04x", (int) letter));
            else out.append(letter);
        }
        return out.append('"').toString();
    }

    public static void main(String[] words) {
        for (String word : words)
            if (word.contains("=")) arguments.put(word.substring(0, word.indexOf('=')), word.substring(word.indexOf('=') + 1));
        for (String word : words) {
            if (word.contains("=")) continue;
            seen = new LinkedHashMap<>();
            try {
                if (!doCase(Integer.parseInt(word))) saw("missing", "the probe has no such case");
            } catch (Exception error) {
                saw("raised", error);
            }
            List<String> pairs = new ArrayList<>();
            seen.forEach((key, value) -> pairs.add(", " + quoted(key) + ": " + quoted(value)));
            System.out.println("{\"case\": " + word + String.join("", pairs) + "}");
        }
        System.exit(0);
    }
}
