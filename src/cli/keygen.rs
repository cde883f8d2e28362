//! `tradewind keygen`: a new signer's key, in a file of its own.

use std::path::PathBuf;

use alloy::{primitives::B256, signers::local::PrivateKeySigner};
use serde_json::json;
use tradewind::base::{Secret, ids};

use super::{Failure, out, secret_file};

#[derive(clap::Args)]
pub struct Args {
    /// Where the key goes (mode 0600); a file that is there is not written over.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the address; the key itself goes nowhere but into the file.
pub fn run(args: Args) -> Result<(), Failure> {
    let (key, address) = loop {
        let bytes = B256::from(ids::secret_bytes32()?);
        // Not every 32 bytes are a key, but very nearly all.
        if let Ok(signer) = PrivateKeySigner::from_bytes(&bytes) {
            break (Secret::new(format!("{bytes}\n")), signer.address());
        }
    };
    secret_file::create(&args.out, key.expose())?;
    if args.json {
        let made = json!({ "address": address, "file": args.out });
        out::say(format_args!("{made:#}"))
    } else {
        out::say(address)
    }
}
