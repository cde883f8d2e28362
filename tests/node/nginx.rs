//! The node behind Debian's nginx with TLS, from the template that users render.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::process::{Child, Command};
use tradewind::demo::Trader;

use crate::{start, until, world};

/// Runs a program to its end and gives its output.
async fn run(program: &str, args: &[&str], dir: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .await
        .unwrap_or_else(|e| {
            panic!("{program} does not start ({e}); run ./setup/test, which installs it")
        });
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A CA of our own and a certificate for localhost.
async fn certificates(dir: &Path) {
    let ca = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca";
    run("openssl", &ca.split(' ').collect::<Vec<_>>(), dir).await;
    let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout node.key -out node.csr -subj /CN=localhost";
    run("openssl", &request.split(' ').collect::<Vec<_>>(), dir).await;
    fs::write(dir.join("san.cnf"), "subjectAltName=DNS:localhost\n").unwrap();
    let sign = "x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san.cnf -out node.pem";
    run("openssl", &sign.split(' ').collect::<Vec<_>>(), dir).await;
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// nginx in the foreground, all of its files in `dir`.
async fn nginx(dir: &Path, upstream: &str, port: u16) -> Child {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rendered = Command::new(root.join("setup/nginx"))
        .env("TRADEWIND_NAME", "localhost")
        .env("TRADEWIND_TLS_PORT", format!("127.0.0.1:{port}"))
        .env("TRADEWIND_UPSTREAM", upstream)
        .env("TRADEWIND_CERTIFICATE", dir.join("node.pem"))
        .env("TRADEWIND_KEY", dir.join("node.key"))
        .output()
        .await
        .unwrap();
    assert!(rendered.status.success());
    fs::write(dir.join("tradewind.conf"), rendered.stdout).unwrap();
    let at = dir.display();
    // One process, so that killing it leaves no worker behind.
    let main = format!(
        "master_process off;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n access_log off;\n client_body_temp_path {at}/body;\n proxy_temp_path {at}/proxy;\n fastcgi_temp_path {at}/f;\n uwsgi_temp_path {at}/u;\n scgi_temp_path {at}/s;\n include {at}/tradewind.conf;\n}}\n"
    );
    fs::write(dir.join("nginx.conf"), main).unwrap();
    // Debian keeps it in sbin, which not every user has in PATH.
    Command::new("/usr/sbin/nginx")
        .args(["-e", "stderr", "-g", "daemon off;", "-c"])
        .arg(dir.join("nginx.conf"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nginx starts; ./setup/test installs it")
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_the_api_over_tls_and_nothing_else() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let buyer = world.buyer().await.unwrap();
    let report = Trader::new(&world, buyer, &node.control, &mut |_| {})
        .trade()
        .await
        .unwrap();
    let (_, ready) = node.control.ask("/ready").await.unwrap();
    let upstream = ready["details"]["api"].as_str().unwrap();

    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path()).await;
    let port = free_port();
    let mut nginx = nginx(dir.path(), upstream, port).await;
    let curl = |path: String| {
        let dir = dir.path().to_owned();
        async move {
            let output = Command::new("curl")
                .args([
                    "--silent",
                    "--show-error",
                    "--cacert",
                    "ca.pem",
                    "-w",
                    "\n%{http_code}",
                ])
                .arg(format!("https://localhost:{port}{path}"))
                .current_dir(dir)
                .output()
                .await
                .expect("curl is installed by ./setup/test");
            let text = String::from_utf8(output.stdout).unwrap();
            let (body, code) = text.rsplit_once('\n')?;
            output
                .status
                .success()
                .then(|| (code.to_owned(), body.to_owned()))
        }
    };

    let (code, body) = until("nginx", || curl("/api/v1/service/ping".into())).await;
    assert_eq!(code, "200");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["message"],
        "pong"
    );

    let (code, body) = curl(format!("/api/v1/service/deals/{}", report.offer_id))
        .await
        .unwrap();
    assert_eq!(code, "200");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["status"],
        "CheckedOut"
    );

    let (code, body) = curl("/api/v1/events".into()).await.unwrap();
    assert_eq!(code, "200");
    assert_eq!(
        body.lines().count(),
        4,
        "one public event per status: {body}"
    );

    // The admin routes are reachable, and ask for a token.
    let (code, body) = curl("/api/v1/admin/deals".into()).await.unwrap();
    assert_eq!(code, "401");
    assert!(body.contains("/problems/token-missing"), "{body}");
    let (code, _) = curl("/openapi.json".into()).await.unwrap();
    assert_eq!(code, "200");

    for hidden in ["/ready", "/metrics", "/"] {
        assert_eq!(curl(hidden.into()).await.unwrap().0, "404", "{hidden}");
    }
    nginx.kill().await.unwrap();
    assert!(node.terminate().await.unwrap().success());
}
