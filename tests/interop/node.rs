//! Runs one of the scripts beside this file and reads the JSON lines it prints.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::far;

pub struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Lines nobody has asked for yet.
    unclaimed: Vec<Value>,
}

impl Node {
    /// # Panics
    /// With what to do, if Node.js or the packages are missing.
    pub fn run(script: &str, args: &Value) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        assert!(
            dir.join("node_modules/libp2p").exists(),
            "the npm packages of tests/interop are not installed: run ./setup/test"
        );
        let mut child = Command::new("node")
            .arg(script)
            .arg(args.to_string())
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("cannot run `node`: run ./setup/test, which installs it");
        let stdout = child.stdout.take().expect("it was just piped");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
            unclaimed: Vec::new(),
        }
    }

    /// The next line that has this field; lines with other fields may still be asked for.
    pub async fn line(&mut self, field: &str) -> Value {
        let waiting = self.unclaimed.iter().position(|v| v.get(field).is_some());
        if let Some(n) = waiting {
            return self.unclaimed.remove(n);
        }
        let search = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let value: Value = serde_json::from_str(&line).unwrap();
                assert!(value.get("error").is_none(), "{line}");
                if value.get(field).is_some() {
                    return value;
                }
                self.unclaimed.push(value);
            }
            panic!("the script ended without a line with `{field}`");
        };
        tokio::time::timeout(far(), search)
            .await
            .unwrap_or_else(|_| panic!("no line with `{field}` came"))
    }

    pub async fn exit_code(&mut self) -> Option<i32> {
        tokio::time::timeout(far(), self.child.wait())
            .await
            .expect("the script does not end")
            .unwrap()
            .code()
    }
}
