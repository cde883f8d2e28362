//! `tradewind store …`: verify what the node remembers, copy it, and make a store of a copy.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tradewind::{
    api::{Control, ControlError},
    base::Clock,
    config::{self, Config},
    store,
};

use super::{
    Failure, target,
    words::{one_line, pairs, plain, rows, time},
};

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
    Export(Copy),
    /// Write everything to a file to restore from; the node may run.
    Backup(Copy),
    /// Make the store of an empty data directory out of an export: the node moves, and goes on where it stood.
    Import(Made),
    /// Make the store of an empty data directory out of a backup: the node goes back to what it was then.
    Restore(Made),
}

#[derive(clap::Args)]
pub struct Copy {
    /// Where everything goes. A file that is there is replaced.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
pub struct Made {
    /// The file that export or backup wrote.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Whose store, and whether the answer is for a program.
#[derive(clap::Args)]
pub struct Place {
    /// The node's config file, which names its data directory.
    #[arg(long, short, value_name = "FILE", env = "TRADEWIND_CONFIG")]
    config: Option<PathBuf>,
    /// The node's data directory; wins over the config's.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
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

    fn tell(&self, answer: &Value, words: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        target::tell(self.json, answer, words)
    }
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Verify {
            file: Some(file),
            place,
        } => {
            let (head, counts) = store::check(&file)?;
            let found = told(&file, &head, &counts);
            place.tell(&found, |f| format!("the file is whole\n{}", in_words(f)))
        }
        Command::Verify { file: None, place } => {
            let (dir, options) = place.settle()?;
            must_be_there(&dir)?;
            let found = store::verify(&options, &dir)?;
            let told = place.tell(&json!(found), verified);
            match found.problem_count {
                0 => told,
                n => Err(Failure::new(format!(
                    "{n} problems, see above; restore a backup into an empty data directory"
                ))),
            }
        }
        Command::Export(Copy { file, place }) | Command::Backup(Copy { file, place }) => {
            let written = copy(&file, &place).await?;
            place.tell(&written, in_words)
        }
        Command::Import(Made { file, place }) => {
            let (dir, options) = place.settle()?;
            let (head, counts) = store::import(&options, &dir, &file, &Clock::system())?;
            place.tell(&told(&dir, &head, &counts), in_words)
        }
        Command::Restore(Made { file, place }) => {
            let (dir, options) = place.settle()?;
            let (head, counts) = store::restore(&options, &dir, &file, &Clock::system())?;
            let warned = place.tell(&told(&dir, &head, &counts), in_words);
            eprintln!(
                "a new event epoch has begun: cursors from before are answered as old\n\
                 the nonces of every signer are compared with the chain at the next start\n\
                 WARNING: {}",
                store::lost_offers(head.created)
            );
            warned
        }
    }
}

/// What is in a file, or in the store made of it.
fn told(path: &Path, head: &store::Head, counts: &store::Counts) -> Value {
    let mut all = written(path, counts);
    all["store"] = json!(head.id);
    all["created"] = json!(head.created);
    all
}

/// As the running node tells it.
fn written(path: &Path, counts: &store::Counts) -> Value {
    let mut all = json!(counts);
    all["path"] = json!(path.display().to_string());
    all
}

fn in_words(f: &Value) -> String {
    let mut known = vec![("path", plain(&f["path"]))];
    if f["store"].is_string() {
        known.push(("store", plain(&f["store"])));
        known.push(("as of", time(&f["created"])));
    }
    known.extend(["records", "cursors", "jobs", "events"].map(|name| (name, plain(&f[name]))));
    pairs(known)
}

fn verified(found: &Value) -> String {
    let mut text = match found["problem_count"].as_u64() {
        Some(0) => String::from("the store is whole\n"),
        _ => format!("problems: {}\n", plain(&found["problem_count"])),
    };
    let problems = rows(&found["problems"]);
    for problem in problems {
        text.push_str(&format!("- {}\n", one_line(&plain(problem))));
    }
    if found["problem_count"].as_u64() > Some(problems.len() as u64) {
        text.push_str("- and more\n");
    }
    let tables = found["records"].as_object().into_iter().flatten();
    let tables = tables.map(|(table, n)| (table.as_str(), plain(n)));
    let rest = ["jobs", "events", "blobs", "bytes"].map(|name| (name, plain(&found[name])));
    text + &pairs(tables.chain(rest))
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
async fn copy(file: &Path, place: &Place) -> Result<Value, Failure> {
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
            answer => return Ok(answer?),
        }
    }
    let copy = || store::copy_stopped(&options, &dir, &path, &Clock::system());
    let counts = tokio::task::block_in_place(copy)?;
    Ok(written(&path, &counts))
}
