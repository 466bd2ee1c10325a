//! What can be told of a program from its command line before it runs: above all its debugger's ports, which must
//! never be taken over.

use protocol::ide::LaunchPlan;

/// Node's port when `--inspect` names none.
const NODE_DEFAULT: u16 = 9229;

/// The ports that a debugger in the launch listens on or connects to.
pub fn debugger_ports(launch: &LaunchPlan) -> Vec<u16> {
    let mut ports = launch.debugger_ports.clone();
    let command: Vec<&str> = launch.command.iter().map(String::as_str).collect();
    let has = |name: &str| command.iter().any(|word| word.contains(name));
    if has("debugpy") {
        ports.extend(after(&command, &["--listen", "--connect"]));
    }
    if has("pydevd") {
        ports.extend(after(&command, &["--port"]));
    }
    if has("dlv") {
        ports.extend(after(&command, &["--listen", "-l"]));
    }
    if has("rdbg") {
        ports.extend(after(&command, &["--port"]));
    }
    if has("gdbserver") {
        ports.extend(command.iter().skip(1).find_map(|word| word.contains(':').then(|| port_of(word))?));
    }
    ports.extend(after(&command, &["--frontend-port"]));
    ports.extend(command.iter().filter_map(|word| node_port(word)));
    ports.extend(command.iter().filter_map(|word| jdwp_port(word)));
    let words = |name: &str| launch.env.get(name).map(String::as_str).unwrap_or_default().split_whitespace();
    ports.extend(words("NODE_OPTIONS").filter_map(node_port));
    for name in ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"] {
        ports.extend(words(name).filter_map(jdwp_port));
    }
    ports.retain(|port| *port != 0);
    ports.sort_unstable();
    ports.dedup();
    ports
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

fn node_port(word: &str) -> Option<u16> {
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

fn jdwp_port(word: &str) -> Option<u16> {
    let options = word.strip_prefix("-agentlib:jdwp=").or_else(|| word.strip_prefix("-Xrunjdwp:"))?;
    options.split(',').find_map(|option| port_of(option.strip_prefix("address=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(command: &str) -> Vec<u16> {
        let command = command.split_whitespace().map(str::to_owned).collect();
        debugger_ports(&LaunchPlan { command, ..LaunchPlan::default() })
    }

    #[test]
    fn a_debuggers_ports_are_known_from_its_command_line() {
        assert_eq!(ports("python -m debugpy --listen 127.0.0.1:5678 --wait-for-client app.py"), [5678]);
        assert_eq!(ports("python -Xfrozen_modules=off -m debugpy --connect=5679 app.py"), [5679]);
        assert_eq!(ports("python pydevd.py --client 127.0.0.1 --port 41000 --file app.py"), [41000]);
        assert_eq!(ports("node --inspect app.js"), [9229]);
        assert_eq!(ports("node --inspect-brk=0.0.0.0:9300 app.js"), [9300]);
        assert_eq!(ports("node --inspect=[::1]:9301 app.js"), [9301]);
        assert_eq!(ports("java -agentlib:jdwp=transport=dt_socket,server=y,address=*:5005 App"), [5005]);
        assert_eq!(ports("dlv exec ./app --headless --listen=127.0.0.1:2345"), [2345]);
        assert_eq!(ports("dlv dap -l 127.0.0.1:2346"), [2346]);
        assert_eq!(ports("gdbserver localhost:1234 ./app"), [1234]);
    }

    #[test]
    fn a_programs_own_ports_are_not_taken_for_a_debuggers() {
        assert!(ports("python app.py --port 8080 --listen 0.0.0.0:80").is_empty());
        assert!(ports("node app.js --inspect-port").is_empty());
        assert!(ports("./server -l :8080").is_empty());
    }

    #[test]
    fn settings_in_the_environment_count() {
        let mut launch = LaunchPlan { debugger_ports: vec![7000], ..LaunchPlan::default() };
        launch.env.insert("NODE_OPTIONS".to_owned(), "--require x.js --inspect=9555".to_owned());
        launch.env.insert("JAVA_TOOL_OPTIONS".to_owned(), "-agentlib:jdwp=address=localhost:5006".to_owned());
        assert_eq!(debugger_ports(&launch), [5006, 7000, 9555]);
    }
}
