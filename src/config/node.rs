//! `[node]`: where the node lives and how it says goodbye.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

/// A unix socket's path has this many bytes at most (108 with the closing zero).
const SOCKET_PATH_MAX: usize = 107;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Everything the node keeps: store, keys, control socket.
    pub data_dir: PathBuf,
    /// How long an orderly shutdown may take before the process ends anyway.
    pub grace: Span,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            grace: Span::secs(30),
        }
    }
}

impl Node {
    /// The socket that `tradewind …` commands on this machine speak to.
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("control.sock")
    }

    pub fn check(&self, problems: &mut Problems) {
        let socket = self.control_socket();
        let len = socket.as_os_str().len();
        problems.check(
            len <= SOCKET_PATH_MAX,
            "node.data_dir",
            format_args!(
                "`{}` is {len} bytes, too deep for a unix socket",
                socket.display()
            ),
            "a data directory whose control.sock path has at most 107 bytes",
        );
    }
}
