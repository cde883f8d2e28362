//! The queues that ours is compared with, each with a server of its own on the same disk, made to sync every commit.
//!
//! A peer that does not run here is said so and gives no numbers; the rows stand without it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub const BULLMQ: &str = "BullMQ, Redis appendfsync always";
pub const GRAPHILE: &str = "Graphile Worker, PostgreSQL synchronous_commit on";

/// Row -> number.
pub type Numbers = BTreeMap<String, f64>;

pub fn bullmq(dir: &Path, seconds: u64) -> Numbers {
    let redis = dir.join("redis");
    fs::create_dir_all(&redis).expect("a directory");
    let socket = redis.join("s");
    let server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "yes"])
        .args([
            "--appendfsync",
            "always",
            "--maxmemory-policy",
            "noeviction",
        ])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(&redis)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    measured(server, &socket, "bullmq.mjs", &socket, seconds)
}

/// PostgreSQL refuses to run as root, so that root lends it to the user its package made.
pub fn graphile(dir: &Path, seconds: u64) -> Numbers {
    let Some(bin) = newest(Path::new("/usr/lib/postgresql")).map(|v| v.join("bin")) else {
        eprintln!("PostgreSQL is not installed: rows without Graphile Worker");
        return Numbers::new();
    };
    // A socket's path is short; the disk is the same as long as this is beside the rest.
    let home = dir.join("pg");
    fs::create_dir_all(&home).expect("a directory");
    let root = rustix::process::geteuid().is_root();
    let sockets = tempfile::tempdir().expect("a directory");
    let as_user = |program: &str| {
        if !root {
            return Command::new(bin.join(program));
        }
        let mut command = Command::new("runuser");
        command
            .args(["-u", "postgres", "--"])
            .arg(bin.join(program));
        command
    };
    if root {
        for path in [&home, &sockets.path().to_owned()] {
            let _ = Command::new("chown").arg("postgres").arg(path).status();
        }
    }
    let data = home.join("data");
    let made = as_user("initdb")
        .args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
            "-D",
        ])
        .arg(&data)
        .stdout(Stdio::null())
        .status();
    if !made.is_ok_and(|s| s.success()) {
        eprintln!("initdb failed: rows without Graphile Worker");
        return Numbers::new();
    }
    // As installed: fsync and synchronous_commit are on.
    let server = as_user("postgres")
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(sockets.path())
        .args(["-c", "listen_addresses=", "-c", "max_connections=100"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let socket = sockets.path().join(".s.PGSQL.5432");
    measured(
        server,
        &socket,
        "graphile-worker.mjs",
        sockets.path(),
        seconds,
    )
}

/// The directory in `dir` with the highest number for a name.
fn newest(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten().map(|e| e.path());
    entries.max_by_key(|p| p.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()))
}

/// Runs `script` against the server once its socket is there, and ends the server.
fn measured(
    server: std::io::Result<Child>,
    socket: &Path,
    script: &str,
    at: &Path,
    seconds: u64,
) -> Numbers {
    let mut server = match server {
        Ok(server) => server,
        Err(e) => {
            eprintln!("the server of {script} does not start ({e}): rows without it");
            return Numbers::new();
        }
    };
    let start = Instant::now();
    while !socket.exists() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = Command::new("node")
        .arg(Path::new("benches/peers").join(script))
        .arg(at)
        .arg(seconds.to_string())
        .stderr(Stdio::inherit())
        .output();
    // runuser hands SIGTERM on; for both servers it is the orderly end.
    if let Some(pid) = rustix::process::Pid::from_raw(server.id() as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = server.wait();
    let text = output.map(|o| o.stdout).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_else(|e| {
        eprintln!("{script} gave no numbers ({e}): rows without it");
        Numbers::new()
    })
}
