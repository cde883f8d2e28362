//! Which running node a command speaks to.

use std::path::PathBuf;

use tradewind::{api::Control, config::Config};

use super::Failure;

#[derive(clap::Args)]
pub struct Target {
    /// The node's config file, which names its data directory.
    #[arg(
        long,
        short,
        env = "TRADEWIND_CONFIG",
        required_unless_present = "data_dir"
    )]
    config: Option<PathBuf>,
    /// The node's data directory, instead of a config file.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

impl Target {
    pub fn connect(self) -> Result<Control, Failure> {
        let socket = match (self.data_dir, self.config) {
            (Some(dir), _) => dir.join("control.sock"),
            (None, Some(path)) => Config::load(&path, std::env::vars())
                .map_err(|e| Failure::config(e.to_string()))?
                .node
                .control_socket(),
            (None, None) => return Err(Failure::config("name the node: --config or --data-dir")),
        };
        Ok(Control::at(socket)?)
    }
}
