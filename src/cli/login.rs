//! `tradewind login`: a token for a node elsewhere, by the owner's key.

use std::path::PathBuf;

use serde_json::json;
use tradewind::{access::Challenge, api::Control, chain, config};

use super::{Failure, out, secret_file, target::warn_of_eavesdroppers};

#[derive(clap::Args)]
pub struct Args {
    /// The node's URL, for example https://node.example.org.
    #[arg(long, env = "TRADEWIND_URL")]
    url: String,
    /// The file that holds the owner's private key as hex. A key in a wallet signs the challenge there instead:
    /// POST /api/v1/admin/login/challenge gives what to sign.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Where the token goes (mode 0600); printed without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let key = chain::load_signer(&config::Signer {
        key_file: args.key_file.display().to_string(),
        ..Default::default()
    })?;
    warn_of_eavesdroppers(&args.url);
    let node = Control::remote(&args.url, None)?;
    let owner = key.address();
    let path = "/api/v1/admin/login/challenge";
    let challenge = node.post(path, &json!({ "owner": owner })).await?;
    let challenge: Challenge = serde_json::from_value(challenge)
        .map_err(|e| Failure::new(format!("the node's challenge cannot be read: {e}")))?;
    // Signed is what we put together ourselves, never what the other end says it comes to.
    if challenge.owner != owner {
        return Err(Failure::new("the challenge is for somebody else"));
    }
    let signature = key.sign_digest(&challenge.message().digest()).await?;
    let signed = json!({
        "owner": owner,
        "nonce": challenge.nonce,
        "signature": format!("0x{}", hex::encode(signature)),
    });
    let answer = node.post("/api/v1/admin/login", &signed).await?;
    let (Some(token), Some(expires)) = (answer["token"].as_str(), answer["expires"].as_str())
    else {
        return Err(Failure::new("the node answered without a token"));
    };
    match args.out {
        Some(path) => {
            secret_file::replace(&path, &format!("{token}\n"))?;
            out::say(format_args!(
                "logged in as {owner} until {expires}; the token is in {}",
                path.display()
            ))
        }
        None => out::say(token),
    }
}
