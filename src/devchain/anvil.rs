//! anvil as a child process: on a free port, and gone when we are.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{DevChainError, Options};

const START_LIMIT: Duration = Duration::from_secs(60);

/// Kept of what anvil said, to explain a start that failed.
const LINES_KEPT: usize = 20;

pub(super) fn binary(install: &Path) -> PathBuf {
    install.join("node_modules/.bin/anvil")
}

#[derive(Debug)]
pub(super) struct Anvil {
    port: u16,
    pid: u32,
    child: Arc<Mutex<Child>>,
    /// An empty chain under this one, which ends with it.
    _under: Option<Box<Anvil>>,
    /// Where it puts old states. Left to itself it fills the user's home, and leaves them there when it is killed.
    _states: Option<tempfile::TempDir>,
}

impl Anvil {
    pub async fn start(install: &Path, options: &Options) -> Result<Self, DevChainError> {
        if !options.long {
            return Self::spawn(install, options, &[]).await;
        }
        // A fork computes no state roots: with them a block costs as much as there is state. And nothing is
        // kept of old states, whose copies cost the same again.
        let free = Options {
            port: 0,
            ..options.clone()
        };
        let under = Self::spawn(install, &free, &[]).await?;
        let url = under.url();
        let args = [
            "--fork-url",
            url.as_str(),
            "--prune-history",
            "--no-rate-limit",
            "--no-storage-caching",
        ];
        let mut anvil = Self::spawn(install, options, &args).await?;
        anvil._under = Some(Box::new(under));
        Ok(anvil)
    }

    async fn spawn(
        install: &Path,
        options: &Options,
        more: &[&str],
    ) -> Result<Self, DevChainError> {
        let states = tempfile::Builder::new()
            .prefix("tradewind-anvil-")
            .tempdir()
            .map_err(|e| DevChainError::Start(format!("no directory for its states: {e}")))?;
        let mut command = Command::new(binary(install));
        command
            .arg("--cache-path")
            .arg(states.path())
            .args(["--host", "127.0.0.1"])
            .args(["--port", &options.port.to_string()])
            .args(["--chain-id", &options.chain_id.to_string()])
            // Otherwise `safe` and `finalized` lag by 32 and 64 blocks.
            .args(["--slots-in-an-epoch", "1"])
            .args(more)
            // The terminal's Ctrl-C is for whoever started it, who may still need the chain to end in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only two system calls are made, both async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(
                    rustix::process::Signal::KILL,
                ))?;
                // The parent may have died before the line above.
                if rustix::process::getppid() != Some(parent) {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        let (tell, told) = oneshot::channel();
        // The death signal comes when the *thread* that started the child ends, so one stays with it; it
        // also empties the pipe, so that anvil never blocks on its own output.
        std::thread::Builder::new()
            .name("anvil".to_owned())
            .spawn(move || stay_with(command, tell))
            .map_err(|e| DevChainError::Start(format!("no thread: {e}")))?;
        match tokio::time::timeout(START_LIMIT, told).await {
            Ok(Ok(Ok(mut anvil))) => {
                anvil._states = Some(states);
                Ok(anvil)
            }
            Ok(Ok(Err(reason))) => Err(DevChainError::Start(reason)),
            Ok(Err(_)) => Err(DevChainError::Start("it ended at once".to_owned())),
            Err(_) => Err(DevChainError::Start(format!(
                "it names no port within {START_LIMIT:?}"
            ))),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself; then there is nothing to kill, only to reap.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Starts the child, tells its port, and reads what it says until it ends.
fn stay_with(mut command: Command, tell: oneshot::Sender<Result<Anvil, String>>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let program = command.get_program().display().to_string();
            let _ = tell.send(Err(format!("{program}: {e}")));
            return;
        }
    };
    let pid = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let mut tell = Some(tell);
    let mut said = Vec::new();
    for line in stdout.map(BufReader::new).into_iter().flat_map(lines) {
        let Some(sender) = tell.take() else { continue };
        if let Some(port) = line
            .strip_prefix("Listening on ")
            .and_then(|address| address.rsplit(':').next()?.trim().parse().ok())
        {
            let anvil = Anvil {
                port,
                pid,
                child: child.clone(),
                _under: None,
                _states: None,
            };
            // If nobody waits any more, dropping the answer kills the child.
            let _ = sender.send(Ok(anvil));
        } else {
            tell = Some(sender);
            said.push(line);
        }
    }
    if let Some(sender) = tell {
        said.extend(stderr.map(BufReader::new).into_iter().flat_map(lines));
        let from = said.len().saturating_sub(LINES_KEPT);
        let _ = sender.send(Err(format!(
            "it ended, saying: {}",
            said[from..].join(" | ")
        )));
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.wait();
    }
}

/// Lines until the other end closes; one that is not text is left out.
fn lines(reader: impl BufRead) -> impl Iterator<Item = String> {
    reader
        .split(b'\n')
        .map_while(Result::ok)
        .filter_map(|line| {
            let text = String::from_utf8(line).ok()?;
            Some(text.trim_end().to_owned())
        })
}
