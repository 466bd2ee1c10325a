//! What can be told of a program from its command line before it runs: above all its debugger's ports, which must
//! never be taken over.

use protocol::ide::LaunchPlan;
use session_host::debugger::{self, jdwp_port, node_port};

/// The ports that a debugger in the launch listens on or connects to.
pub fn debugger_ports(launch: &LaunchPlan) -> Vec<u16> {
    let mut ports = launch.debugger_ports.clone();
    let command: Vec<&str> = launch.command.iter().map(String::as_str).collect();
    ports.extend(debugger::ports(&command));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_in_the_environment_count() {
        let mut launch = LaunchPlan { debugger_ports: vec![7000], ..LaunchPlan::default() };
        launch.env.insert("NODE_OPTIONS".to_owned(), "--require x.js --inspect=9555".to_owned());
        launch.env.insert("JAVA_TOOL_OPTIONS".to_owned(), "-agentlib:jdwp=address=localhost:5006".to_owned());
        assert_eq!(debugger_ports(&launch), [5006, 7000, 9555]);
    }
}
