//! What a program's command line tells of its debugger: the ports that are the debugger's own, which are of this machine
//! whatever the pod has on them.

/// Node's port when `--inspect` names none.
const NODE_DEFAULT: u16 = 9229;

/// The ports that a debugger in this command line listens on or connects to.
#[must_use]
pub fn ports(command: &[&str]) -> Vec<u16> {
    let mut ports = Vec::new();
    let has = |name: &str| command.iter().any(|word| word.contains(name));
    if has("debugpy") {
        ports.extend(after(command, &["--listen", "--connect"]));
        // What an adapter asks a terminal to run: `python …/debugpy/launcher [HOST:]PORT -- app.py`.
        let launcher = command.iter().position(|word| word.ends_with("debugpy/launcher"));
        ports.extend(launcher.and_then(|at| port_of(command.get(at + 1)?)));
    }
    if has("pydevd") {
        ports.extend(after(command, &["--port"]));
    }
    if has("dlv") {
        ports.extend(after(command, &["--listen", "-l", "--client-addr"]));
    }
    if has("rdbg") {
        ports.extend(after(command, &["--port"]));
    }
    if has("gdbserver") {
        ports.extend(command.iter().skip(1).find_map(|word| word.contains(':').then(|| port_of(word))?));
    }
    ports.extend(after(command, &["--frontend-port"]));
    ports.extend(command.iter().filter_map(|word| node_port(word)));
    ports.extend(command.iter().filter_map(|word| jdwp_port(word)));
    ports
}

/// The same of a process that runs; none where it cannot be read.
#[must_use]
pub fn ports_of(pid: u32) -> Vec<u16> {
    let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let command = read("cmdline");
    let command = words(&command);
    let mut ports = ports(&command);
    if is_js_debugs_probe(&command) {
        ports.extend(probed(&words(&read("environ"))));
    }
    ports
}

fn words(list: &[u8]) -> Vec<&str> {
    list.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect()
}

/// Whether this is what js-debug starts in the program's place before it opens the inspector: a node that tries whether
/// the port in its variable PORT can be had, on every address, and ends.
fn is_js_debugs_probe(command: &[&str]) -> bool {
    matches!(command, [_, "-e", code, ..] if code.contains(".listen(+process.env.PORT)") && code.contains("process.exit(0)"))
}

fn probed(environment: &[&str]) -> Option<u16> {
    environment.iter().find_map(|word| word.strip_prefix("PORT=")?.parse().ok())
}

/// The ports after one of `flags`, as `--flag VALUE` or `--flag=VALUE`.
fn after(command: &[&str], flags: &[&str]) -> Vec<u16> {
    let mut ports = Vec::new();
    for (index, word) in command.iter().enumerate() {
        let value = match word.split_once('=') {
            Some((flag, value)) if flags.contains(&flag) => Some(value),
            _ if flags.contains(word) => command.get(index + 1).copied(),
            _ => None,
        };
        ports.extend(value.and_then(port_of));
    }
    ports
}

/// The port of `PORT`, `HOST:PORT`, `[v6]:PORT` or `*:PORT`.
fn port_of(text: &str) -> Option<u16> {
    text.rsplit(':').next()?.parse().ok()
}

/// The port of one of Node's options.
#[must_use]
pub fn node_port(word: &str) -> Option<u16> {
    let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
    if !matches!(flag, "--inspect" | "--inspect-brk" | "--inspect-wait" | "--inspect-port" | "--debug-port") {
        return None;
    }
    match value {
        None if flag.ends_with("-port") => None,
        None => Some(NODE_DEFAULT),
        // `--inspect=HOST` names no port.
        Some(value) => port_of(value).or(Some(NODE_DEFAULT)),
    }
}

/// The port of one of Java's options.
#[must_use]
pub fn jdwp_port(word: &str) -> Option<u16> {
    let options = word.strip_prefix("-agentlib:jdwp=").or_else(|| word.strip_prefix("-Xrunjdwp:"))?;
    options.split(',').find_map(|option| port_of(option.strip_prefix("address=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Vec<u16> {
        ports(&command.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn a_debuggers_ports_are_known_from_its_command_line() {
        assert_eq!(of("python -m debugpy --listen 127.0.0.1:5678 --wait-for-client app.py"), [5678]);
        assert_eq!(of("python -Xfrozen_modules=off -m debugpy --connect=5679 app.py"), [5679]);
        assert_eq!(of("python pydevd.py --client 127.0.0.1 --port 41000 --file app.py"), [41000]);
        assert_eq!(of("python /x/site-packages/debugpy/launcher 49155 -- app.py --port 80"), [49155]);
        assert_eq!(of("python /x/debugpy/launcher 127.0.0.1:49155 -- app.py"), [49155]);
        assert_eq!(of("node --inspect app.js"), [9229]);
        assert_eq!(of("node --inspect-brk=0.0.0.0:9300 app.js"), [9300]);
        assert_eq!(of("node --inspect=[::1]:9301 app.js"), [9301]);
        assert_eq!(of("java -agentlib:jdwp=transport=dt_socket,server=y,address=*:5005 App"), [5005]);
        assert_eq!(of("dlv exec ./app --headless --listen=127.0.0.1:2345"), [2345]);
        assert_eq!(of("dlv dap -l 127.0.0.1:2346"), [2346]);
        assert_eq!(of("dlv dap --client-addr 127.0.0.1:2347"), [2347]);
        assert_eq!(of("gdbserver localhost:1234 ./app"), [1234]);
    }

    #[test]
    fn the_port_that_js_debug_tries_for_its_inspector_is_the_debuggers() {
        let code = "require(\"net\").createServer().on(\"listening\",()=>process.exit(0)).on(\"error\",\
                    ()=>process.exit(1)).listen(+process.env.PORT)";
        assert!(is_js_debugs_probe(&["/usr/bin/node", "-e", code]));
        assert_eq!(probed(&["A=1", "PORT=53117", "B="]), Some(53117));
        let server = "require('http').createServer(answer).listen(+process.env.PORT)";
        assert!(!is_js_debugs_probe(&["node", "-e", server]));
        assert!(!is_js_debugs_probe(&["node", "app.js", code]));
    }

    #[test]
    fn a_programs_own_ports_are_not_taken_for_a_debuggers() {
        assert!(of("python app.py --port 8080 --listen 0.0.0.0:80").is_empty());
        assert!(of("node app.js --inspect-port").is_empty());
        assert!(of("./server -l :8080").is_empty());
    }
}
