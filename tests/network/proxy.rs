//! Wires that fail the way wires do: silent without closing, or answered by something else.
#![allow(dead_code)] // several test programs share this file and each leaves something unused

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Forwards TCP to a local port until frozen: then it takes bytes, passes none on, and closes nothing.
/// Choked, it does not even take bytes any more.
pub struct Proxy {
    port: u16,
    frozen: Arc<watch::Sender<u64>>,
    choked: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Odd: frozen. A connection that met a freeze stays dead for ever.
        let frozen = Arc::new(watch::Sender::new(0));
        let state = frozen.clone();
        let choked = Arc::new(AtomicBool::new(false));
        let choke = choked.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, choke) = (state.subscribe(), choke.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
                        return;
                    };
                    let (cr, cw) = client.into_split();
                    let (sr, sw) = server.into_split();
                    tokio::join!(
                        pump(cr, sw, state.clone(), &choke),
                        pump(sr, cw, state, &choke)
                    );
                });
            }
        });
        Self {
            port,
            frozen,
            choked,
            accepting,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn freeze(&self) {
        self.frozen.send_modify(|n| *n += 1);
    }

    pub fn choke(&self) {
        self.choked.store(true, Ordering::SeqCst);
    }

    pub fn thaw(&self) {
        self.frozen.send_modify(|n| *n += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: watch::Receiver<u64>,
    choked: &AtomicBool,
) {
    let mut buffer = [0; 4096];
    let began = *state.borrow();
    let mut dead = began % 2 == 1;
    loop {
        if choked.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let n = from.read(&mut buffer).await.unwrap_or(0);
        dead |= *state.borrow() != began;
        if dead {
            // Half-open: the other side never learns of anything.
            if n == 0 {
                std::future::pending::<()>().await;
            }
            continue;
        }
        if n == 0 || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Something that is no coordinator: greets with noise and hangs up.
pub struct Garbage {
    visits: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

impl Garbage {
    pub async fn listen(port: u16) -> Self {
        let deadline = tokio::time::Instant::now() + crate::support::far();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        let visits = Arc::new(AtomicU32::new(0));
        let count = visits.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = client
                    .write_all(b"220 mail.example ESMTP\r\n\0\xff\xff")
                    .await;
            }
        });
        Self { visits, accepting }
    }

    pub fn visits(&self) -> u32 {
        self.visits.load(Ordering::SeqCst)
    }

    pub async fn stop(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}
