//! `tradewind store …`: verify what the node remembers, copy it, and make a store of a copy.

use std::path::{Path, PathBuf};

use serde_json::json;
use tradewind::{
    api::{Control, ControlError},
    base::Clock,
    config::{self, Config},
    store,
};

use super::{Failure, target};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Walk everything in the store of a stopped node, or in a file, and name what is wrong.
    Verify {
        /// A file written by export or backup, instead of the store.
        #[arg(long)]
        file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Write everything to a file that any backend can import; the node may run.
    Export {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Write everything to a file to restore from; the node may run.
    Backup {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Make the store of an empty data directory out of an export: the node moves, and goes on where it stood.
    Import {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Make the store of an empty data directory out of a backup: the node goes back to what it was then.
    Restore {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

/// Whose store.
#[derive(clap::Args)]
pub struct Place {
    /// The node's config file, which names its data directory.
    #[arg(long, short, env = "TRADEWIND_CONFIG")]
    config: Option<PathBuf>,
    /// The node's data directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

impl Place {
    fn settle(&self) -> Result<(PathBuf, config::Store), Failure> {
        let config = match &self.config {
            Some(path) => target::load(path)?,
            None => Config::default(),
        };
        match (&self.data_dir, &self.config) {
            (Some(dir), _) => Ok((dir.clone(), config.store)),
            (None, Some(_)) => Ok((config.node.data_dir, config.store)),
            (None, None) => Err(Failure::config("name the store: --config or --data-dir")),
        }
    }
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Verify {
            file: Some(file), ..
        } => {
            let (head, counts) = store::check(&file)?;
            println!(
                "{}: whole. Store {} as of {}, {}",
                file.display(),
                head.id,
                head.created,
                words(&counts)
            );
            Ok(())
        }
        Command::Verify { file: None, place } => {
            let (dir, options) = place.settle()?;
            must_be_there(&dir)?;
            let found = store::verify(&options, &dir)?;
            println!("{:#}", json!(found));
            match found.problem_count {
                0 => Ok(()),
                n => Err(Failure::new(format!(
                    "{n} problems, see above; restore a backup into an empty data directory"
                ))),
            }
        }
        Command::Export { file, place } | Command::Backup { file, place } => {
            copy(&file, &place).await
        }
        Command::Import { file, place } => {
            let (dir, options) = place.settle()?;
            let (head, counts) = store::import(&options, &dir, &file, &Clock::system())?;
            println!(
                "{}: store {} as of {}, {}",
                dir.display(),
                head.id,
                head.created,
                words(&counts)
            );
            Ok(())
        }
        Command::Restore { file, place } => {
            let (dir, options) = place.settle()?;
            let (head, counts) = store::restore(&options, &dir, &file, &Clock::system())?;
            println!(
                "{}: store {} as of {}, {}",
                dir.display(),
                head.id,
                head.created,
                words(&counts)
            );
            println!(
                "a new event epoch has begun: cursors from before are answered as old\n\
                 the nonces of every signer are compared with the chain at the next start\n\
                 WARNING: {}",
                store::lost_offers(head.created)
            );
            Ok(())
        }
    }
}

fn words(counts: &store::Counts) -> String {
    format!(
        "{} records, {} cursors, {} jobs, {} events",
        counts.records, counts.cursors, counts.jobs, counts.events
    )
}

/// A store is not begun by looking at it.
fn must_be_there(dir: &Path) -> Result<(), Failure> {
    if dir.join("store/id").exists() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "there is no store in {}",
        dir.display()
    )))
}

/// Through the running node if there is one, else straight from its files.
async fn copy(file: &Path, place: &Place) -> Result<(), Failure> {
    let (dir, options) = place.settle()?;
    must_be_there(&dir)?;
    let path = std::path::absolute(file)?;
    let socket = dir.join("control.sock");
    if socket.exists() {
        let body = json!({ "path": path });
        match Control::at(socket)?
            .post("/api/v1/admin/store/backup", &body)
            .await
        {
            // What a killed node left.
            Err(ControlError::NoNode { .. }) => {}
            answer => {
                println!("{:#}", answer?);
                return Ok(());
            }
        }
    }
    let copy = || store::copy_stopped(&options, &dir, &path, &Clock::system());
    let counts = tokio::task::block_in_place(copy)?;
    println!("{}: {}", path.display(), words(&counts));
    Ok(())
}
