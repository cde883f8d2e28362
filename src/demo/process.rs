//! The node as a child process: started, watched, killed.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::api::{Control, ControlError};

/// A running `tradewind run`. Killed when dropped.
pub struct NodeProcess {
    child: Child,
    started: Instant,
    pub control: Control,
    /// What the node logged.
    pub log: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {exe}: {source}", exe = exe.display())]
    Start {
        exe: PathBuf,
        source: std::io::Error,
    },
    #[error("the node ended with {status} before it was ready; its log, {log}, says:\n{tail}", log = log.display())]
    Ended {
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
    #[error("the node was not ready within {limit:?}: {last}; its log is {log}", log = log.display())]
    NotReady {
        limit: Duration,
        last: String,
        log: PathBuf,
    },
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the node's process: {0}")]
    Io(#[from] std::io::Error),
}

impl NodeProcess {
    /// Starts `exe run --config config`; its log is appended to `log`. `apart`, in a process group of its own: it
    /// does not hear the terminal's Ctrl-C, and whoever does must end it.
    pub fn spawn(
        exe: &Path,
        config: &Path,
        data_dir: &Path,
        log: &Path,
        apart: bool,
    ) -> Result<Self, ProcessError> {
        let file = File::options().create(true).append(true).open(log)?;
        let started = Instant::now();
        let mut command = Command::new(exe);
        if apart {
            command.process_group(0);
        }
        let child = command
            .arg("run")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(file))
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ProcessError::Start {
                exe: exe.to_owned(),
                source,
            })?;
        Ok(Self {
            child,
            started,
            control: Control::at(data_dir.join("control.sock"))?,
            log: log.to_owned(),
        })
    }

    /// Waits until `/ready` says 200; how long that was since the process was started.
    pub async fn ready(&mut self, limit: Duration) -> Result<Duration, ProcessError> {
        let mut last = String::from("it does not answer yet");
        while self.started.elapsed() < limit {
            match self.control.ask("/ready").await {
                Ok((status, _)) if status.is_success() => return Ok(self.started.elapsed()),
                Ok((_, body)) => last = body["reasons"].to_string(),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(ProcessError::Ended {
                    status,
                    log: self.log.clone(),
                    tail: tail(&self.log),
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(ProcessError::NotReady {
            limit,
            last,
            log: self.log.clone(),
        })
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, once; then waits for the exit.
    pub async fn terminate(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(rustix::process::Signal::TERM)?;
        self.exit().await
    }

    pub fn signal(&self, signal: rustix::process::Signal) -> Result<(), ProcessError> {
        if let Some(pid) = self.pid() {
            rustix::process::kill_process(pid, signal).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    pub async fn exit(&mut self) -> Result<ExitStatus, ProcessError> {
        Ok(self.child.wait().await?)
    }

    fn pid(&self) -> Option<rustix::process::Pid> {
        let id = i32::try_from(self.child.id()?).ok()?;
        rustix::process::Pid::from_raw(id)
    }

    /// Resident memory in MB (10^6 bytes), as the kernel counts it; `None` once the process is gone.
    pub fn rss_mb(&self) -> Option<f64> {
        Self::rss_mb_of(self.child.id()?)
    }

    /// [`NodeProcess::rss_mb`] of any process.
    pub fn rss_mb_of(pid: u32) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some((kib * 1024.0 / 1e5).round() / 10.0)
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
