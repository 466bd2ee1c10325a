# The probe in Ruby: `probe.rb NAME=VALUE... CASE...` does each case and prints what it saw, one line of JSON each.
require "json"
require "socket"
require "tmpdir"
require "fileutils"
require "open3"
require "resolv"
require "timeout"

ARGUMENTS = ARGV.select { |word| word.include?("=") }.to_h { |word| word.split("=", 2) }
def arg(name) = ARGUMENTS.fetch(name)
def dir(name) = "#{arg("dir")}/#{name}"
def near(name) = "#{arg("local")}/#{name}"
def read(name) = File.read(name).chomp
def climbing(name) = "../../../../../../../..#{name}"

$seen = {}
def saw(key, value) = $seen[key] = value.is_a?(String) ? value : value.inspect

# Notes what the block gives, or the name of its error; answers with it.
def does(key)
  got = yield
  saw(key, got.nil? ? "ok" : got)
  got
rescue SystemCallError => error
  saw(key, error.class.name.sub("Errno::", ""))
  nil
rescue SocketError, Timeout::Error, IOError => error
  saw(key, "#{error.class}: #{error.message}")
  nil
end

def greeting(socket)
  *words, port = socket.gets.to_s.split
  [words.join(" "), port.to_i]
end

def talk(socket, what)
  said, port = greeting(socket)
  saw("#{what}: greeting", said)
  saw("#{what}: own", [socket.local_address.ip_address, socket.local_address.ip_port == port, socket.remote_address.ip_address]) unless socket.is_a?(UNIXSocket)
  socket.write("over and back\n")
  saw("#{what}: echo", socket.gets.to_s)
  socket.close_write
  saw("#{what}: end", [socket.gets, socket.gets])
  socket.close
end

def dialed(host, port, what)
  socket = nil
  does(what) do
    socket = TCPSocket.new(host, port)
    nil
  end
  talk(socket, what) if socket
end

# Answers the next caller of a listener and says who it was.
def met(server, what)
  raise "nobody came" unless server.wait_readable(8)
  socket = server.accept
  port = socket.gets.to_s.split[1].to_i
  saw(what, [socket.remote_address.ip_address, socket.remote_address.ip_port == port, socket.local_address.ip_address, socket.local_address.ip_port == arg("serve").to_i])
  socket.write("bye\n")
  socket.close
end

def looked_up(name, family = nil)
  Addrinfo.getaddrinfo(name, 80, family, :STREAM).map(&:ip_address).uniq.sort
end

CASES = {
  1 => lambda do
    does("content") { read(dir("file")) }
    does("lines") { File.foreach(dir("file")).to_a }
    file = File.open(dir("file"))
    saw("pieces", [file.sysread(3), file.sysread(3)])
    file.close
  end,
  5 => lambda do
    does("one") { read(dir("sub/../file")) }
    does("two") { read(dir("sub/deep/../../file")) }
    does("slashes") { read(dir("./sub//deep/./leaf")) }
    does("through none") { read(dir("none/../file")) }
  end,
  6 => lambda do
    there = dir(climbing(near("near")))
    does("content") { read(there) }
    does("stat") { File.stat(there).size }
    does("none") { read(dir(climbing("/none-of-that-name"))) }
  end,
  7 => lambda do
    does("content") { read(dir("link")) }
    does("text") { File.readlink(dir("link")) }
    does("no link") { File.readlink(dir("file")) }
    does("lstat") { File.lstat(dir("link")).ftype }
    does("below a link") { read(dir("dirlink/deep/leaf")) }
    does("not followed") { File.open(dir("link"), File::RDONLY | File::NOFOLLOW).close }
  end,
  8 => lambda do
    does("in the volume") { read(dir("abslink")) }
    does("out of it") { read(dir("outlink")) }
    does("dangling") { read(dir("dangling")) }
  end,
  9 => lambda do
    found = []
    ends = Time.now + 5
    while found.size < 2 && Time.now < ends
      found |= [read(dir("config/version"))]
      sleep 0.005
    end
    saw("seen", found.sort)
    does("stable") { read(dir("config/stable")) }
  end,
  10 => lambda do
    does("children") { Dir.children(dir("tree")).sort }
    does("glob") { Dir.glob("**/*.txt", base: dir("tree")).sort }
    does("realpath") { File.realpath(dir("dirlink/../link")) }
    made = Dir.mktmpdir("made-", arg("local"))
    does("rmdir") { Dir.rmdir(made) && nil }
  end,
  11 => lambda do
    first, second = File.open(dir("file")), File.open(dir("file"))
    same = first.dup
    saw("read", [first, second, same].map { |file| file.sysread(3) })
    saw("shared", first.sysseek(0, IO::SEEK_CUR))
  end,
  12 => lambda do
    file = File.open(dir("file"))
    does("pread") { file.pread(7, 1) }
    does("beyond") { file.pread(4, 1 << 20) }
    does("end") { file.sysseek(0, IO::SEEK_END) }
    does("before") { file.sysseek(-1, IO::SEEK_SET) }
    big = File.open(dir("big"))
    does("data") { big.sysseek(1 << 20, IO::SEEK_DATA) }
    does("hole") { big.sysseek(0, IO::SEEK_HOLE) }
  end,
  14 => lambda do
    %w[file big].each do |name|
      by_path = File.stat(dir(name))
      by_fd = File.open(dir(name)) { |file| file.stat }
      saw(name, [by_path.ino == by_fd.ino, by_path.dev == by_fd.dev, by_path.mode.to_s(8), by_path.size, by_path.nlink, by_path.mtime.to_i])
    end
  end,
  15 => lambda do
    copy = near("copy-#{arg("name")}")
    [["cp", "-r", dir("tree"), copy], ["diff", "-r", dir("tree"), copy], ["ls", "-lgo", "--time-style=+", dir("tree")],
     ["tar", "-C", arg("dir"), "-cf", "/dev/null", "tree"]].each do |command|
      said, status = Open3.capture2e(*command)
      saw(command[0], [status.exitstatus, said])
    end
    FileUtils.rm_rf(copy)
    does("cp_r") { FileUtils.cp_r(dir("tree"), copy) && nil }
    FileUtils.rm_rf(copy)
  end,
  17 => lambda do
    folder = Dir.new(dir("many"))
    2.times do |round|
      names = folder.each.to_a.sort
      saw("round #{round}", [names.size, names[2], names[-1]])
      folder.rewind
    end
  end,
  18 => lambda do
    does("ENOENT") { File.open(dir("none")) && nil }
    does("ENOTDIR") { File.open(dir("file/x")) && nil }
    does("EISDIR") { File.open(dir("sub"), "r+") && nil }
    does("ELOOP") { File.open(dir("loop")) && nil }
    does("ENAMETOOLONG") { File.open(dir("x" * 299)) && nil }
    does("EACCES") { read(dir("closed")) }
    saw("access", [File.readable?(dir("file")), File.executable?(dir("file")), File.exist?(dir("none"))])
  end,
  19 => lambda do
    name = "#{arg("ro")}/banner.txt"
    does("write") { File.write(name, "x") && nil }
    does("append") { File.open(name, "a") && nil }
    does("new") { File.write("#{arg("ro")}/new", "x") && nil }
    does("unlink") { File.unlink(name) && nil }
    does("mkdir") { Dir.mkdir("#{arg("ro")}/new") && nil }
    does("rename") { File.rename(name, "#{arg("ro")}/other") && nil }
    does("content") { read(name) }
  end,
  20 => lambda do
    name = dir("w-#{arg("name")}")
    before = File.umask(0o027)
    does("new") { File.open(name, "wx", 0o666) { |file| file.write("first line\n") } && nil }
    does("again") { File.open(name, "wx") && nil }
    does("append") { File.write(name, "second\n", mode: "a") }
    does("both") { read(name) }
    does("mode and size") { [File.stat(name).mode.to_s(8), File.size(name)] }
    does("truncate") { File.truncate(name, 3) && nil }
    does("cut") { read(name) }
    does("unlink") { File.unlink(name) && nil }
    does("gone") { read(name) }
    File.umask(before)
  end,
  21 => lambda do
    does("rename to there") { File.rename(near("near"), dir("near-#{arg("name")}")) && nil }
    does("rename from there") { File.rename(dir("file"), near("taken")) && nil }
    does("link from there") { File.link(dir("file"), near("taken")) && nil }
    does("near") { read(near("near")) }
  end,
  22 => lambda do
    folder = dir("d-#{arg("name")}")
    does("mkdir") { Dir.mkdir(folder, 0o750) && nil }
    does("new") { File.write("#{folder}/one", "x") }
    does("link") { File.link("#{folder}/one", "#{folder}/two") && nil }
    does("symlink") { File.symlink("one", "#{folder}/three") && nil }
    does("text") { File.readlink("#{folder}/three") }
    does("chmod") { File.chmod(0o600, "#{folder}/one") && nil }
    does("utime") { File.utime(1_000_000_000, 1_234_567_890, "#{folder}/one") && nil }
    does("stat") { [File.stat("#{folder}/one").mode.to_s(8), File.stat("#{folder}/one").nlink, File.mtime("#{folder}/one").to_i] }
    does("rename") { File.rename("#{folder}/one", "#{folder}/four") && nil }
    does("rmdir of a full one") { Dir.rmdir(folder) && nil }
    does("rm_r") { FileUtils.rm_r(folder) && nil }
  end,
  23 => lambda do
    name = near("sent-#{arg("name")}")
    does("copy_stream") { IO.copy_stream(dir("block"), name) }
    does("start") { File.read(name, 40) }
    File.unlink(name)
  end,
  24 => lambda do
    one, two = File.open(dir("file")), File.open(dir("file"))
    does("shared") { one.flock(File::LOCK_SH | File::LOCK_NB) }
    does("exclusive beside it") { two.flock(File::LOCK_EX | File::LOCK_NB) }
    one.flock(File::LOCK_UN)
    does("exclusive") { two.flock(File::LOCK_EX | File::LOCK_NB) }
  end,
  25 => lambda do
    file = File.open(dir("big"))
    does("size") { file.size }
    does("far in") { file.pread(32, (4 << 30) + 123).delete("\0") }
    does("a hole") { file.pread(8, 3 << 30) == "\0" * 8 }
  end,
  26 => lambda do
    does("size") { File.size(arg("sizeless")) }
    does("content") { read(arg("sizeless")) }
  end,
  27 => lambda do
    back = Dir.pwd
    does("chdir") { Dir.chdir(dir("sub")) && nil }
    does("pwd") { Dir.pwd }
    does("below") { read("deep/leaf") }
    does("child") { Open3.capture2e("cat", "deep/leaf")[0] }
    does("to none") { Dir.chdir(dir("none")) && nil }
    Dir.chdir(back)
    does("near") { read(near("near")) }
  end,
  32 => lambda do
    file = File.open(dir("file"))
    link = "/proc/self/fd/#{file.fileno}"
    does("link") { File.readlink(link) }
    does("reopened") { read(link) }
    saw("the same", File.identical?(link, dir("file")))
  end,
  33 => -> { dialed(arg("host"), arg("echo"), "tcp") },
  35 => lambda do
    dialed(arg("host"), arg("refused"), "refused")
    dialed(arg("unreachable"), 9, "unreachable")
    does("without blocking") { Socket.tcp(arg("host"), arg("refused").to_i, connect_timeout: 5) && nil }
  end,
  36 => lambda do
    socket = TCPSocket.new(arg("host"), arg("echo"))
    said, port = greeting(socket)
    saw("names", [said, socket.addr(false)[3], socket.addr(false)[1] == port, socket.peeraddr(false)[3], socket.peeraddr(false)[1] == arg("echo").to_i])
  end,
  37 => lambda do
    dialed(arg("host6"), arg("echo"), "IPv6")
    dialed("::ffff:#{arg("host")}", arg("echo"), "mapped")
  end,
  38 => lambda do
    path = near("own-#{Process.pid}")
    server = UNIXServer.new(path)
    client = UNIXSocket.new(path)
    client.write("message\n")
    saw("own", [server.accept.gets, client.peeraddr[1] == path])
    File.unlink(path)
    far = nil
    does("far") { (far = UNIXSocket.new(arg("unix"))) && nil }
    talk(far, "far") if far
  end,
  39 => lambda do
    connected = UDPSocket.new
    connected.connect(arg("host"), arg("udp"))
    connected.send("one", 0)
    does("connected") { connected.wait_readable(3) && connected.recv(100) }
    loose = UDPSocket.new
    loose.send("two", 0, arg("host"), arg("udp"))
    does("loose") do
      text, from = loose.wait_readable(3) && loose.recvfrom(100)
      [text, from && [from[3], from[1] == arg("udp").to_i]]
    end
  end,
  41 => lambda do
    [["0.0.0.0", 80], ["127.0.0.1", 0], ["0.0.0.0", arg("serve").to_i], ["::", arg("second").to_i]].each_with_index do |(host, port), at|
      does("listen #{at}") do
        server = TCPServer.new(host, port)
        own = server.local_address
        server.close
        [own.ip_address, port.zero? || own.ip_port == port]
      end
    end
  end,
  42 => lambda do
    server = TCPServer.new("0.0.0.0", arg("serve").to_i)
    met(server, "first")
    met(server, "second")
    server.close
  end,
  50 => lambda do
    does("any family") { looked_up(arg("known")) }
    does("IPv4") { looked_up(arg("known"), :INET) }
    does("by its own resolver") { Timeout.timeout(8) { Resolv::DNS.new.getaddresses(arg("known")).map(&:to_s).sort } }
  end,
  54 => lambda do
    does("short") { looked_up(arg("short"), :INET) }
    does("with one dot") { looked_up(arg("one-dot"), :INET) }
  end,
  55 => lambda do
    does("unknown") { looked_up(arg("unknown")) }
    does("only IPv6") { looked_up(arg("known6")) }
    does("too many for one datagram") { looked_up(arg("crowd"), :INET) }
  end,
  56 => lambda do
    does("in hosts") { looked_up(arg("in-hosts"), :INET) }
    does("own") { [Socket.gethostname, looked_up(Socket.gethostname, :INET)] }
  end,
  58 => -> { does("name") { Addrinfo.tcp(arg("reverse"), 80).getnameinfo[0] } },
}.freeze

$stdout.sync = true
ARGV.reject { |word| word.include?("=") }.each do |word|
  $seen = {}
  begin
    CASES.fetch(word.to_i).call
  rescue StandardError => error
    saw("raised", "#{error.class}: #{error.message}")
  end
  puts JSON.generate({ case: word.to_i }.merge($seen.transform_values { |value| value.dup.force_encoding("UTF-8").scrub }))
end
