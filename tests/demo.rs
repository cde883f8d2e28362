//! The demo that stays up: it says how to log in, trades on, and ends everything in order on Ctrl-C.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// How long anything may take on a slow, noisy machine before it is called broken.
const PATIENCE: Duration = Duration::from_secs(120);

const EXE: &str = env!("CARGO_BIN_EXE_tradewind");

fn start(args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut demo = Command::new(EXE)
        .arg("demo")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    (demo, lines)
}

/// Reads on until a line has this in it.
async fn line_with(lines: &mut Lines<BufReader<ChildStdout>>, what: &str) -> String {
    let search = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            println!("{line}");
            if line.contains(what) {
                return line;
            }
        }
        panic!("it ended without `{what}`")
    };
    tokio::time::timeout(PATIENCE, search)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"))
}

fn interrupt(demo: &Child) {
    let pid = i32::try_from(demo.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
}

async fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("tradewind"), "{line}");
    let output = Command::new(EXE).args(words).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}{errors}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_says_how_to_log_in_and_ends_in_order() {
    let (mut demo, mut lines) = start(&[]);
    let api = line_with(&mut lines, "  API ").await;
    let api = api.split_whitespace().nth(1).unwrap().to_owned();
    // What it tells its reader to do works.
    let status = line_with(&mut lines, "tradewind status").await;
    assert!(run(&status).await.contains("requests are answered"));
    let login = line_with(&mut lines, "tradewind login").await;
    assert!(run(&login).await.contains("logged in as"));
    let list = line_with(&mut lines, "tradewind deals ls").await;
    for n in [1, 2] {
        let settled = line_with(&mut lines, "CheckedOut in").await;
        assert_eq!(settled.split_whitespace().next(), Some(&*n.to_string()));
    }
    let deals = run(&list).await;
    assert!(deals.matches("CheckedOut").count() >= 2, "{deals}");

    interrupt(&demo);
    line_with(&mut lines, "The node ended in order.").await;
    line_with(&mut lines, "trades were settled.").await;
    let exit = tokio::time::timeout(PATIENCE, demo.wait()).await.unwrap();
    assert_eq!(exit.unwrap().code(), Some(0));
    // Nothing is left that answers.
    let place = api.trim_start_matches("http://");
    assert!(tokio::net::TcpStream::connect(place).await.is_err());
}
