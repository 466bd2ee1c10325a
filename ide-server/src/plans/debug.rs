//! The table of debug types: what changes in a launch configuration so that its program runs under `exec --plan`.
//!
//! Where a debugger takes its program's command as words, the words come first; where it takes a path, the path is a
//! script. The debugger itself is left on this machine where it can be. An adapter that the editor starts as a program
//! is started by a relay that outlives the editor's window (see [`crate::adapter`]).
//!
//! | type | by which field | what runs under `exec --plan` |
//! | --- | --- | --- |
//! | node, pwa-node | `runtimeExecutable` | node, in every console |
//! | node-terminal | `command` | the shell |
//! | debugpy, python | `python` (a list), with `debugLauncherPython` | the interpreter, in every console |
//! | go | `dlvToolPath` | dlv, passed through as the build is |
//! | lldb-dap | `debugAdapterExecutable` | the adapter, or what it has a terminal start |
//! | cppdbg | `miDebuggerPath` | gdb or lldb-mi, passed through |
//! | java | `javaExec` | java, in every console |
//! | coreclr | `pipeTransport` | vsdbg, passed through; its program's output is in the debug console |
//!
//! A program's environment is given to it by its session host, so no row touches `env` (a map; for lldb-dap a list of
//! `K=V`), `environment` (cppdbg's list of names and values) or `envFile`, which the debugger's extension has read by then.
//! VS Code has put in variables and inputs, and the fields below `linux` for its own; those below `windows` and `osx` are
//! nobody's here. Which ports are a debugger's own is read from its command line (`session_host::debugger`); which
//! programs are passed through is the config's, with the build tools and debuggers of [`crate::config`].

use protocol::ide::{ErrorData, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What js-debug does with its program at the end of a debug session.
const KILL_BEHAVIOR: &str = "killBehavior";
/// Nothing.
const LEAVES_IT: &str = "none";

/// Whether a patch has the debugger leave its program alone at its end.
pub fn leaves_program(patch: &Value) -> bool {
    patch[KILL_BEHAVIOR] == LEAVES_IT
}

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
    /// Where the editor's extension for the debug type is, if it told.
    pub debugger: Option<&'a Path>,
}

impl Way<'_> {
    /// The merge patch on a launch configuration.
    pub fn patch(&self, debug: &Value) -> Result<Value, ErrorData> {
        let kind = text(debug, "type").unwrap_or_default();
        Ok(match kind {
            "node" | "pwa-node" => {
                // What js-debug fills in by itself looks like what the user wrote.
                let leaves = text(debug, KILL_BEHAVIOR).is_none_or(|how| how == "forceful");
                let lasts = leaves || text(debug, KILL_BEHAVIOR) == Some(LEAVES_IT);
                let script = if lasts { Self::lasting_script } else { Self::script };
                let mut patch =
                    json!({ "runtimeExecutable": script(self, "node", debug, "runtimeExecutable")? });
                // js-debug would take a reload of the window for the user's Stop.
                if leaves {
                    patch[KILL_BEHAVIOR] = LEAVES_IT.into();
                }
                patch
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
                let mut patch = json!({ "python": self.words(&given), "debugLauncherPython": launcher });
                if let Some(adapter) = self.debugpy(debug) {
                    patch["debugAdapterPath"] = self.debugpy_script(&adapter)?.into();
                }
                patch
            }
            "java" => json!({ "javaExec": self.script("java", debug, "javaExec")? }),
            "cppdbg" => {
                refuse_elsewhere(debug, "pipeTransport")?;
                refuse_elsewhere(debug, "miDebuggerServerAddress")?;
                let usual = if text(debug, "MIMode") == Some("lldb") { "lldb-mi" } else { "gdb" };
                json!({ "miDebuggerPath": self.script(usual, debug, "miDebuggerPath")? })
            }
            "coreclr" => {
                if debug["pipeTransport"]["pipeProgram"].is_string() {
                    refuse_elsewhere(debug, "pipeTransport")?;
                }
                // A terminal cannot be had through a pipe; asked for, it would be left out without a word.
                json!({ "console": "internalConsole", "pipeTransport": self.pipe(debug)? })
            }
            "go" => json!({ "dlvToolPath": self.dlv_script(debug)? }),
            "lldb-dap" => {
                // Where both are given the younger `console` decides; adapters before 21 know the other one alone.
                let in_terminal = text(debug, "console")
                    .map_or(debug["runInTerminal"] == true, |console| console != "internalConsole");
                let script = self.lldb_script(debug, in_terminal)?;
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
        self.write(&format!("mirrord-{usual}"), &format!("#!/bin/sh\nexec {words} \"$@\"\n"))
    }

    /// The same for a program that outlives the editor which it writes to.
    fn lasting_script(&self, usual: &str, debug: &Value, field: &str) -> Result<String, ErrorData> {
        let mut words = self.words(&[&self.named(usual, debug, field)]);
        // Behind `exec`, whose option it is.
        words.insert(2, "--outlive-editor".to_owned());
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        self.write(&format!("mirrord-{usual}"), &format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))
    }

    /// lldb-dap runs under the plan, held by a relay. One that has a terminal start its program stays outside, or it
    /// might not trace what is not its child: it starts that program by its own name and `--launch-target`. As a server
    /// of many clients it is nobody's, and asked what it is able to it only answers.
    fn lldb_script(&self, debug: &Value, in_terminal: bool) -> Result<String, ErrorData> {
        let lldb = self.named("lldb-dap", debug, "debugAdapterExecutable");
        let (covered, alone) = (self.quoted(&[&lldb]), quote(&lldb));
        let straight = format!(
            "for word; do\n    case $word in\n    --launch-target | --connection* | --port* | -p) exec {covered} \"$@\" ;;\n    \
             --help | -h | --version) exec {alone} \"$@\" ;;\n    esac\ndone\n"
        );
        let relay = self.relay(&[]);
        let held = if in_terminal { format!("--arg0 \"$0\" -- {alone}") } else { format!("-- {covered}") };
        self.write("mirrord-lldb-dap", &format!("#!/bin/sh\n{straight}exec {relay} {held} \"$@\"\n"))
    }

    /// `dlv dap` runs under the plan, held by a relay; another command of dlv's that runs a program is under the plan
    /// alone.
    fn dlv_script(&self, debug: &Value) -> Result<String, ErrorData> {
        let dlv = self.named("dlv", debug, "dlvToolPath");
        let (covered, alone) = (self.quoted(&[&dlv]), quote(&dlv));
        let relay = self.relay(&["--dlv", &self.words(&[]).len().to_string()]);
        let script = format!(
            "#!/bin/sh\ncase $1 in\ndap) exec {relay} -- {covered} \"$@\" ;;\n\
             help | version | -h | --help) exec {alone} \"$@\" ;;\nesac\nexec {covered} \"$@\"\n"
        );
        self.write("mirrord-dlv", &script)
    }

    /// debugpy's adapter as the editor's extension would start it.
    fn debugpy(&self, debug: &Value) -> Option<PathBuf> {
        let named = text(debug, "debugAdapterPath").map(PathBuf::from);
        named.or_else(|| {
            Some(self.debugger?.join("bundled/libs/debugpy/adapter")).filter(|path| path.exists())
        })
    }

    /// Python's extension starts the adapter by the interpreter that it found: what it is given is Python too.
    fn debugpy_script(&self, adapter: &Path) -> Result<String, ErrorData> {
        let words = [
            &self.program.display().to_string(),
            "adapter",
            "--folder",
            &self.folder.display().to_string(),
            "--",
        ];
        let words = json!(words);
        let adapter = json!(adapter);
        self.write(
            "mirrord-debugpy.py",
            &format!("import os, sys\n\nwords = {words}\nos.execv(words[0], [*words, sys.executable, {adapter}, *sys.argv[1:]])\n"),
        )
    }

    /// The words of a relay, for sh.
    fn relay(&self, more: &[&str]) -> String {
        let (program, folder) = (self.program.display().to_string(), self.folder.display().to_string());
        let words = [program.as_str(), "adapter", "--folder", &folder];
        let words: Vec<String> = words.iter().chain(more).map(|word| quote(word)).collect();
        words.join(" ")
    }

    /// How vsdbg's user interface, which VS Code starts, reaches its other half: by a program that it starts with words
    /// of its own and then the debugger's path and options, not quoted. The path may hold blanks, so it stands in the
    /// script, and a word that is dropped in its place.
    fn pipe(&self, debug: &Value) -> Result<Value, ErrorData> {
        let given = text(&debug["pipeTransport"], "debuggerPath");
        let debugger = match given {
            Some(path) => path.to_owned(),
            None => self.vsdbg()?.display().to_string(),
        };
        let words = self.quoted(&[&debugger]);
        let script = self.write("mirrord-vsdbg", &format!("#!/bin/sh\nshift\nexec {words} \"$@\"\n"))?;
        let folder = text(debug, "cwd").map_or(self.folder.display().to_string(), str::to_owned);
        Ok(json!({
            "pipeProgram": script, "pipeArgs": [], "debuggerPath": "vsdbg", "pipeCwd": folder, "quoteArgs": false,
        }))
    }

    /// Where Microsoft's C# extension keeps its debugger on Linux: below the newest of its folders.
    fn vsdbg(&self) -> Result<PathBuf, ErrorData> {
        let home = self.env.get("HOME").map(PathBuf::from).unwrap_or_default();
        let folders =
            |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let name = |path: &Path| {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let editors = folders(home).filter(|path| name(path).starts_with(".vscode"));
        let extensions = editors.flat_map(|editor| folders(editor.join("extensions")));
        let debuggers = extensions.filter_map(|path| {
            let version = name(&path).strip_prefix("ms-dotnettools.csharp-")?.to_owned();
            let numbers: Vec<u32> = version.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
            let debugger = path.join(".debugger/vsdbg");
            debugger.is_file().then_some((numbers, debugger))
        });
        debuggers.max().map(|(_, debugger)| debugger).ok_or_else(|| {
            ErrorData::new(
                ErrorKind::UnsupportedDebugType,
                "the .NET debugger vsdbg is not found where Microsoft's C# extension keeps it (~/.vscode*/extensions)",
                "install that extension, or name the debugger: \"pipeTransport\": {\"debuggerPath\": \"/path/to/vsdbg\"}",
            )
        })
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
    fn write(&self, name: &str, script: &str) -> Result<String, ErrorData> {
        let path = self.folder.join(name);
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

/// Refuses a launch whose debugger is told by `field` that its program is somewhere else.
fn refuse_elsewhere(debug: &Value, field: &str) -> Result<(), ErrorData> {
    if debug[field].is_null() {
        return Ok(());
    }
    let message = format!("\"{field}\" has the program started somewhere else than on this machine");
    let help = format!("remove \"{field}\" from the launch configuration, or set \"mirrord\" to false in it");
    Err(ErrorData::new(ErrorKind::UnsupportedDebugType, message, help).fact("field", field))
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
        way(&folder, &env).patch(&debug)
    }

    fn way<'a>(folder: &'a Path, env: &'a BTreeMap<String, String>) -> Way<'a> {
        Way { program: Path::new("/bin/mirrord-ide"), plan: "abcd1234", folder, env, debugger: None }
    }

    /// A folder of a test's own: they run side by side, and a script's name tells its debugger alone.
    fn own_folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("mirrord-ide-debug-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn script_of(path: &Value) -> String {
        std::fs::read_to_string(path.as_str().unwrap()).unwrap()
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
        ] {
            let got = patched(debug).unwrap();
            let script = std::fs::read_to_string(got[field].as_str().unwrap()).unwrap();
            assert!(script.starts_with("#!/bin/sh\nexec '/bin/mirrord-ide' 'exec' '--"), "{script}");
            assert!(script.contains("'--plan' 'abcd1234'"), "{script}");
            assert_eq!(script.contains("'--outlive-editor'"), field == "runtimeExecutable", "{script}");
            assert!(script.contains("'/opt/it'\\''s/") && script.ends_with(" \"$@\"\n"), "{script}");
        }
    }

    #[test]
    fn js_debug_leaves_the_program_to_us_unless_the_user_says_how_it_ends() {
        let folder = std::env::temp_dir().join("mirrord-ide-kill-behavior");
        std::fs::create_dir_all(&folder).unwrap();
        let env = BTreeMap::new();
        let way = way(&folder, &env);
        for (how, ours, lasts) in [
            (json!(null), true, true),
            (json!("forceful"), true, true),
            (json!("polite"), false, false),
            (json!("none"), false, true),
        ] {
            let got = way.patch(&json!({ "type": "pwa-node", "killBehavior": how })).unwrap();
            assert_eq!((got["killBehavior"] == "none", leaves_program(&got)), (ours, ours), "{how}");
            let script = std::fs::read_to_string(got["runtimeExecutable"].as_str().unwrap()).unwrap();
            assert_eq!(script.contains("--outlive-editor"), lasts, "{how}");
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

    /// What a script starts, given these words: the words as they come, one a line.
    fn started_by(script: &str, words: &[&str]) -> Vec<String> {
        let text = std::fs::read_to_string(script).unwrap();
        // `exec` of another kind: it tells.
        let told = text.replace("exec '", "printf '%s\\n' '");
        let told = told.lines().map(|line| {
            if line.starts_with("printf") {
                format!("{line}; exit")
            } else {
                line.replace(" ;;", "; exit ;;")
            }
        });
        let told: Vec<String> = told.collect();
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(told.join("\n"))
            .arg(script)
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{told:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn relay(folder: &Path) -> Vec<String> {
        ["/bin/mirrord-ide", "adapter", "--folder", folder.to_str().unwrap()].map(str::to_owned).to_vec()
    }

    fn words(parts: &[&[String]], more: &[&str]) -> Vec<String> {
        parts.concat().into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }

    #[test]
    fn lldb_is_held_by_a_relay_under_the_plan_and_outside_where_a_terminal_starts_its_program() {
        let exec = EXEC.map(str::to_owned);
        for (debug, in_terminal) in [
            (json!({}), false),
            (json!({ "runInTerminal": true }), true),
            (json!({ "console": "integratedTerminal" }), true),
            (json!({ "console": "externalTerminal" }), true),
            (json!({ "console": "internalConsole", "runInTerminal": true }), false),
        ] {
            let folder = own_folder("lldb");
            let mut debug = debug;
            debug["type"] = "lldb-dap".into();
            debug["debugAdapterExecutable"] = "/opt/it's/lldb-dap".into();
            let got = way(&folder, &BTreeMap::new()).patch(&debug).unwrap();
            assert_eq!(got["runInTerminal"], in_terminal, "{debug}");
            let script = got["debugAdapterExecutable"].as_str().unwrap();
            let under = words(&[&exec], &["/opt/it's/lldb-dap"]);
            let held = if in_terminal {
                words(&[&relay(&folder)], &["--arg0", script, "--", "/opt/it's/lldb-dap", "--x"])
            } else {
                words(&[&relay(&folder), &["--".to_owned()], &under], &["--x"])
            };
            assert_eq!(started_by(script, &["--x"]), held, "{debug}");
            let launch = ["--comm-file", "/tmp/f", "--launch-target", "/w/app"];
            assert_eq!(started_by(script, &launch), words(&[&under], &launch));
            assert_eq!(started_by(script, &["--connection", "listen://x"])[..7], exec);
            assert_eq!(started_by(script, &["--help"]), ["/opt/it's/lldb-dap", "--help"]);
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[test]
    fn dotnets_debugger_is_reached_through_a_script_that_starts_it_under_the_plan() {
        let home = std::env::temp_dir().join("mirrord-ide-home of vsdbg");
        for version in ["2.9.1-linux-x64", "2.80.16-linux-x64"] {
            let folder =
                home.join(format!(".vscode-server/extensions/ms-dotnettools.csharp-{version}/.debugger"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("vsdbg"), "").unwrap();
        }
        // An update that is not whole yet.
        let half = home.join(".vscode/extensions/ms-dotnettools.csharp-2.99.1-linux-x64");
        std::fs::create_dir_all(half).unwrap();
        let env = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
        let way = Way {
            program: Path::new("/bin/mirrord-ide"),
            plan: "abcd1234",
            folder: &home,
            env: &env,
            debugger: None,
        };
        let debug =
            json!({ "type": "coreclr", "program": "a.dll", "console": "integratedTerminal", "cwd": "/work" });
        let got = way.patch(&debug).unwrap();
        assert_eq!(got["console"], "internalConsole");
        let pipe = &got["pipeTransport"];
        assert_eq!((&pipe["quoteArgs"], &pipe["pipeArgs"]), (&json!(false), &json!([])));
        assert_eq!((&pipe["pipeCwd"], &pipe["debuggerPath"]), (&json!("/work"), &json!("vsdbg")));
        let script = script_of(&pipe["pipeProgram"]);
        let debugger =
            home.join(".vscode-server/extensions/ms-dotnettools.csharp-2.80.16-linux-x64/.debugger/vsdbg");
        let last = script.lines().last().unwrap();
        assert!(last.starts_with("exec '/bin/mirrord-ide' 'exec' '--plan' 'abcd1234'"), "{script}");
        assert!(last.ends_with(&format!(" '--' '{}' \"$@\"", debugger.display())), "{script}");
        std::fs::remove_dir_all(&home).unwrap();

        let missing = way.patch(&debug).unwrap_err();
        assert!(missing.help.contains("debuggerPath"), "{missing}");
        let mut named = debug.clone();
        named["pipeTransport"] = json!({ "debuggerPath": "/opt/vsdbg" });
        let got = patched(named).unwrap();
        assert!(script_of(&got["pipeTransport"]["pipeProgram"]).contains("'/opt/vsdbg'"));
    }

    #[test]
    fn the_pipes_script_starts_the_debugger_with_the_options_alone() {
        let folder = std::env::temp_dir().join("mirrord-ide-pipe");
        std::fs::create_dir_all(&folder).unwrap();
        let env = BTreeMap::new();
        // In our own place a program that prints its words.
        let way = Way { program: Path::new("/bin/echo"), ..way(&folder, &env) };
        let debug = json!({ "type": "coreclr", "pipeTransport": { "debuggerPath": "/a b/vsdbg" } });
        let got = way.patch(&debug).unwrap();
        let script = got["pipeTransport"]["pipeProgram"].as_str().unwrap();
        let done =
            std::process::Command::new(script).args(["vsdbg", "--interpreter=vscode"]).output().unwrap();
        let words = String::from_utf8(done.stdout).unwrap();
        assert!(words.ends_with(" -- /a b/vsdbg --interpreter=vscode\n"), "{words}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn dlv_is_held_by_a_relay_when_it_speaks_to_an_editor() {
        let (folder, exec) = (own_folder("dlv"), EXEC.map(str::to_owned));
        let debug = json!({ "type": "go", "dlvToolPath": "/opt/it's/dlv" });
        let got = way(&folder, &BTreeMap::new()).patch(&debug).unwrap();
        let script = got["dlvToolPath"].as_str().unwrap();
        let dap = ["dap", "--listen=127.0.0.1:7"];
        let held = words(&[&relay(&folder)], &["--dlv", "7", "--"]);
        assert_eq!(started_by(script, &dap), words(&[&held, &exec], &["/opt/it's/dlv", dap[0], dap[1]]));
        assert_eq!(started_by(script, &["version"]), ["/opt/it's/dlv", "version"]);
        assert_eq!(started_by(script, &["debug", "x"]), words(&[&exec], &["/opt/it's/dlv", "debug", "x"]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_program_that_another_machine_starts_is_refused() {
        for debug in [
            json!({ "type": "coreclr", "pipeTransport": { "pipeProgram": "ssh", "debuggerPath": "/vsdbg" } }),
            json!({ "type": "cppdbg", "pipeTransport": { "pipeProgram": "ssh" } }),
            json!({ "type": "cppdbg", "miDebuggerServerAddress": "board:1234" }),
        ] {
            let error = patched(debug.clone()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::UnsupportedDebugType, "{debug}");
            assert!(error.message.contains("somewhere else"), "{error}");
        }
    }

    #[test]
    fn no_row_touches_the_environment_in_any_shape_or_reads_fields_of_other_systems() {
        let types = [
            "node",
            "pwa-node",
            "node-terminal",
            "debugpy",
            "python",
            "go",
            "lldb-dap",
            "cppdbg",
            "java",
            "coreclr",
        ];
        for (kind, folder) in types.into_iter().zip(1..) {
            let folder = std::env::temp_dir().join(format!("mirrord-ide-row-{folder}"));
            std::fs::create_dir_all(&folder).unwrap();
            let env = BTreeMap::new();
            let way = way(&folder, &env);
            let theirs = json!({ "runtimeExecutable": "C:\\theirs.exe", "python": "C:\\theirs.exe", "dlvToolPath": "C:\\theirs.exe",
                "debugAdapterExecutable": "C:\\theirs.exe", "miDebuggerPath": "C:\\theirs.exe", "javaExec": "C:\\theirs.exe" });
            for env in [json!({ "A": "1" }), json!(["A=1"]), json!([{ "name": "A", "value": "1" }])] {
                let debug = json!({ "type": kind, "env": env, "environment": env, "envFile": "/work/.env", "windows": theirs,
                    "osx": theirs, "pipeTransport": if kind == "coreclr" { json!({ "debuggerPath": "/opt/vsdbg" }) } else { Value::Null } });
                let got = way.patch(&debug).unwrap();
                for field in ["env", "environment", "envFile", "windows", "osx"] {
                    assert!(got.get(field).is_none(), "{kind}: {got}");
                }
                let written: String = std::fs::read_dir(&folder)
                    .unwrap()
                    .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
                    .collect();
                assert!(!format!("{got}{written}").contains("theirs.exe"), "{kind}: {got}{written}");
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[test]
    fn debugpys_adapter_is_held_by_a_relay_where_it_is_known() {
        let (folder, env) = (own_folder("debugpy"), BTreeMap::new());
        assert_eq!(
            way(&folder, &env).patch(&json!({ "type": "debugpy" })).unwrap().get("debugAdapterPath"),
            None
        );
        let bundled = folder.join("bundled/libs/debugpy/adapter");
        std::fs::create_dir_all(&bundled).unwrap();
        for (debug, adapter) in [
            (json!({ "type": "debugpy" }), bundled.to_str().unwrap()),
            (json!({ "type": "debugpy", "debugAdapterPath": "/opt/it's \"a\"" }), "/opt/it's \"a\""),
        ] {
            let way = Way { debugger: Some(&folder), ..way(&folder, &env) };
            let got = way.patch(&debug).unwrap();
            const TELLS: &str = "import os, sys; os.execv = lambda _, words: print(*words, sep='\\n'); exec(open(sys.argv.pop(1)).read())";
            let script = got["debugAdapterPath"].as_str().unwrap();
            let output = std::process::Command::new("python3")
                .args(["-c", TELLS, script, "--log-dir"])
                .output()
                .unwrap();
            let told = String::from_utf8(output.stdout).unwrap();
            let told: Vec<&str> = told.lines().collect();
            assert_eq!(told[..5], words(&[&relay(&folder)], &["--"]), "{:?}", output.stderr);
            assert_eq!(told[6..], [adapter, "--log-dir"]);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_type_that_is_not_known_is_refused_by_name() {
        let error = patched(json!({ "type": "php" })).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UnsupportedDebugType);
        assert!(error.message.contains("php"));
    }
}
