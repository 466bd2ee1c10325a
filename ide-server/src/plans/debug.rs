//! The table of debug types: what changes in a launch configuration so that its program runs under `exec --plan`.
//!
//! Where a debugger takes its program's command as words, the words come first; where it takes a path, the path is a
//! script. The debugger itself is left on this machine where it can be.

use protocol::ide::{ErrorData, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How programs of one plan are started.
#[derive(Debug)]
pub struct Way<'a> {
    /// This program.
    pub program: &'a Path,
    /// The plan's name.
    pub plan: &'a str,
    /// Where its scripts are.
    pub folder: &'a Path,
    /// The editor's environment.
    pub env: &'a BTreeMap<String, String>,
}

impl Way<'_> {
    /// The merge patch on a launch configuration.
    pub fn patch(&self, debug: &Value) -> Result<Value, ErrorData> {
        let kind = text(debug, "type").unwrap_or_default();
        Ok(match kind {
            "node" | "pwa-node" => {
                json!({ "runtimeExecutable": self.script("node", debug, "runtimeExecutable")? })
            }
            "node-terminal" => {
                let shell = self.env.get("SHELL").map_or("/bin/sh", String::as_str);
                let command = match text(debug, "command") {
                    Some(line) => self.words(&[shell, "-c", line]),
                    None => self.words(&[shell]),
                };
                let quoted: Vec<String> = command.iter().map(|word| quote(word)).collect();
                json!({ "command": format!("exec {}", quoted.join(" ")) })
            }
            "debugpy" | "python" => {
                let given: Vec<&str> = match &debug["python"] {
                    Value::String(one) => vec![one],
                    Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
                    _ => vec!["python3"],
                };
                // Without a launcher's python of its own the adapter would start the first word alone.
                let launcher = given.first().copied().unwrap_or("python3");
                json!({ "python": self.words(&given), "debugLauncherPython": launcher })
            }
            "java" => json!({ "javaExec": self.script("java", debug, "javaExec")? }),
            "cppdbg" => json!({ "miDebuggerPath": self.script("gdb", debug, "miDebuggerPath")? }),
            "go" => json!({ "dlvToolPath": self.script("dlv", debug, "dlvToolPath")? }),
            "lldb-dap" => {
                // Where both are given the younger `console` decides; adapters before 21 know the other one alone.
                let in_terminal = text(debug, "console")
                    .map_or(debug["runInTerminal"] == true, |console| console != "internalConsole");
                let script = if in_terminal { Self::terminal_script } else { Self::script };
                let script = script(self, "lldb-dap", debug, "debugAdapterExecutable")?;
                json!({ "debugAdapterExecutable": script, "runInTerminal": in_terminal })
            }
            "mirrord-terminal" | "mirrord-task" => {
                let mut command = vec![text(debug, "program").unwrap_or("/bin/sh")];
                command.extend(debug["args"].as_array().into_iter().flatten().filter_map(Value::as_str));
                let words = self.words(&command);
                json!({ "program": words[0], "args": words[1..] })
            }
            other => {
                return Err(ErrorData::new(
                    ErrorKind::UnsupportedDebugType,
                    format!("programs of debug type {other} cannot be started in a pod's world yet"),
                    "start the program by `mirrord-ide exec` and attach to it with \"mirrord\": false",
                )
                .fact("type", other));
            }
        })
    }

    /// The words that start a command under the plan.
    fn words(&self, command: &[&str]) -> Vec<String> {
        let program = self.program.display().to_string();
        let ours = [program.as_str(), "exec", "--plan", self.plan, "--progress", "off", "--"];
        ours.iter().chain(command).map(|word| (*word).to_owned()).collect()
    }

    /// A script that starts the program which `field` names, or else the usual one, under the plan.
    fn script(&self, usual: &str, debug: &Value, field: &str) -> Result<String, ErrorData> {
        let words = self.quoted(&[&self.named(usual, debug, field)]);
        self.write(usual, &format!("#!/bin/sh\nexec {words} \"$@\"\n"))
    }

    /// The same for an adapter that has a terminal start its program, by the adapter's own name and `--launch-target`:
    /// only that is under the plan. The adapter stays outside, or it might not trace what is not its child; it takes its
    /// name from the first word, which sh alone cannot choose.
    fn terminal_script(&self, usual: &str, debug: &Value, field: &str) -> Result<String, ErrorData> {
        let program = self.named(usual, debug, field);
        let (words, alone) = (self.quoted(&[&program]), quote(&program));
        let covered =
            format!("for word; do\n    [ \"$word\" = --launch-target ] && exec {words} \"$@\"\ndone\n");
        self.write(usual, &format!("#!/usr/bin/env bash\n{covered}exec -a \"$0\" {alone} \"$@\"\n"))
    }

    /// The program which `field` names, or else the usual one.
    fn named(&self, usual: &str, debug: &Value, field: &str) -> String {
        text(debug, field).map_or_else(|| self.found(usual).display().to_string(), str::to_owned)
    }

    /// The words that start a command under the plan, for sh.
    fn quoted(&self, command: &[&str]) -> String {
        let words: Vec<String> = self.words(command).iter().map(|word| quote(word)).collect();
        words.join(" ")
    }

    /// Writes one of the plan's scripts; its path.
    fn write(&self, usual: &str, script: &str) -> Result<String, ErrorData> {
        let path = self.folder.join(format!("mirrord-{usual}"));
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o700)
                .open(&path)?;
            file.write_all(script.as_bytes())
        };
        write().map_err(|error| {
            let help = "make room in the state folder that `mirrord-ide status` names";
            ErrorData::new(ErrorKind::Internal, "the plan's script cannot be written", help).caused_by(&error)
        })?;
        Ok(path.display().to_string())
    }

    /// A program in the editor's PATH, or where its own tool puts it.
    fn found(&self, name: &str) -> PathBuf {
        let home = self.env.get("HOME").map(|home| Path::new(home).join("go/bin"));
        let path = self.env.get("PATH").map(String::as_str).unwrap_or_default();
        std::env::split_paths(path)
            .chain(home)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from(name))
    }
}

fn text<'a>(debug: &'a Value, field: &str) -> Option<&'a str> {
    debug[field].as_str().filter(|text| !text.is_empty())
}

/// A word for sh.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(debug: Value) -> Result<Value, ErrorData> {
        let folder = std::env::temp_dir();
        let env = BTreeMap::from([("SHELL".to_owned(), "/bin/bash".to_owned())]);
        Way { program: Path::new("/bin/mirrord-ide"), plan: "abcd1234", folder: &folder, env: &env }
            .patch(&debug)
    }

    const EXEC: [&str; 7] = ["/bin/mirrord-ide", "exec", "--plan", "abcd1234", "--progress", "off", "--"];

    #[test]
    fn python_runs_under_the_plan_and_its_launcher_does_not() {
        let got = patched(json!({ "type": "debugpy", "python": "/venv/bin/python" })).unwrap();
        assert_eq!(got["debugLauncherPython"], "/venv/bin/python");
        let wanted: Vec<&str> = EXEC.into_iter().chain(["/venv/bin/python"]).collect();
        assert_eq!(got["python"], json!(wanted));
    }

    #[test]
    fn a_debugger_that_takes_a_path_gets_a_script() {
        for (debug, field) in [
            (json!({ "type": "pwa-node", "runtimeExecutable": "/opt/it's/node" }), "runtimeExecutable"),
            (json!({ "type": "java", "javaExec": "/opt/it's/java" }), "javaExec"),
            (json!({ "type": "cppdbg", "miDebuggerPath": "/opt/it's/gdb" }), "miDebuggerPath"),
            (json!({ "type": "go", "dlvToolPath": "/opt/it's/dlv" }), "dlvToolPath"),
            (
                json!({ "type": "lldb-dap", "debugAdapterExecutable": "/opt/it's/x" }),
                "debugAdapterExecutable",
            ),
        ] {
            let got = patched(debug).unwrap();
            let script = std::fs::read_to_string(got[field].as_str().unwrap()).unwrap();
            assert!(
                script.starts_with("#!/bin/sh\nexec '/bin/mirrord-ide' 'exec' '--plan' 'abcd1234'"),
                "{script}"
            );
            assert!(script.contains("'/opt/it'\\''s/") && script.ends_with(" \"$@\"\n"), "{script}");
        }
    }

    #[test]
    fn a_terminal_is_the_users_shell_under_the_plan() {
        let got =
            patched(json!({ "type": "mirrord-terminal", "program": "/bin/zsh", "args": ["-l"] })).unwrap();
        assert_eq!(got["program"], "/bin/mirrord-ide");
        assert_eq!(got["args"].as_array().unwrap().last().unwrap(), "-l");
        let got = patched(json!({ "type": "node-terminal" })).unwrap();
        assert!(got["command"].as_str().unwrap().ends_with("'--' '/bin/bash'"), "{got}");
    }

    #[test]
    fn what_lldb_has_a_terminal_start_runs_under_the_plan_and_lldb_does_not() {
        for (debug, in_terminal) in [
            (json!({}), false),
            (json!({ "runInTerminal": true }), true),
            (json!({ "console": "integratedTerminal" }), true),
            (json!({ "console": "externalTerminal" }), true),
            (json!({ "console": "internalConsole", "runInTerminal": true }), false),
        ] {
            // The tests of this file run side by side, and a script's name tells its debugger alone.
            let folder = std::env::temp_dir().join("mirrord-ide-lldb-in-a-terminal");
            std::fs::create_dir_all(&folder).unwrap();
            let env = BTreeMap::new();
            let way =
                Way { program: Path::new("/bin/mirrord-ide"), plan: "abcd1234", folder: &folder, env: &env };
            let mut debug = debug;
            debug["type"] = "lldb-dap".into();
            debug["debugAdapterExecutable"] = "/opt/lldb-dap".into();
            let got = way.patch(&debug).unwrap();
            assert_eq!(got["runInTerminal"], in_terminal, "{debug}");
            let script = std::fs::read_to_string(got["debugAdapterExecutable"].as_str().unwrap()).unwrap();
            let last = script.lines().last().unwrap();
            let first =
                if in_terminal { "exec -a \"$0\" '/opt/lldb-dap' " } else { "exec '/bin/mirrord-ide' " };
            assert!(last.starts_with(first), "{script}");
            assert_eq!(script.contains("--launch-target"), in_terminal, "{script}");
        }
    }

    #[test]
    fn a_type_that_is_not_known_is_refused_by_name() {
        let error = patched(json!({ "type": "php" })).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UnsupportedDebugType);
        assert!(error.message.contains("php"));
    }
}
