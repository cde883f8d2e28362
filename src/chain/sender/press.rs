//! Transactions that are waited for: handed out again, and the first of them replaced when it is stuck.

use std::collections::HashSet;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Inner,
    look::Place,
    replace::{Ask, Replaced},
    watch::{Memory, Outcome, Row},
    wire::Handed,
};
use crate::{chain::Head, store::Batch, telemetry::Beat};

impl Inner {
    /// Rows the chain has not used the nonce of yet: handed again, and the first of them replaced if stuck.
    pub(super) async fn press(
        &self,
        rows: Vec<Row>,
        place: &Place,
        memory: &mut Memory,
        outcome: &mut Outcome,
        beat: &Beat,
    ) -> Result<(), String> {
        let (count, head) = (place.count, &place.head);
        let Some(first) = rows.first().map(|row| row.value.nonce) else {
            memory.front = None;
            return Ok(());
        };
        if first > count {
            outcome.trouble = Some(format!(
                "the chain waits for nonce {count} of {}, the oldest transaction on its way has {first}",
                self.signer.address()
            ));
        }
        // What the chain waits for: the first row, or whatever should be before it.
        let first = first.min(count);
        if memory.front.is_none_or(|(nonce, _)| nonce != first) {
            memory.front = Some((first, Instant::now()));
        }
        let stuck = memory
            .front
            .is_some_and(|(_, since)| since.elapsed() >= self.config.stuck_after.0);
        if stuck && rows.first().is_some_and(|row| row.value.nonce > count) {
            memory.front = Some((first, Instant::now()));
            return self.close_gaps(count, &rows, head).await;
        }
        let live: HashSet<Uuid> = rows.iter().map(|row| row.value.id).collect();
        memory.handed.retain(|id, _| live.contains(id));

        for (n, row) in rows.into_iter().enumerate() {
            beat.tick();
            if n == 0 && stuck {
                memory.front = Some((first, Instant::now()));
                self.offer_more(row, head, outcome).await?;
                continue;
            }
            let id = row.value.id;
            let due = memory
                .handed
                .get(&id)
                .is_none_or(|at| at.elapsed() >= self.config.resend_after.0);
            if !due {
                continue;
            }
            match self.hand(&row.value).await {
                Handed::Accepted | Handed::NonceUsed => {}
                Handed::Underpriced if n == 0 => self.offer_more(row, head, outcome).await?,
                Handed::Underpriced => {}
                Handed::NoFunds(reason) => {
                    outcome.trouble = Some(format!("{}: {reason}", self.signer.address()));
                }
                Handed::Refused(reason) => {
                    outcome.trouble =
                        Some(format!("the chain refuses {}: {reason}", row.value.hash));
                }
                Handed::Unreachable(reason) => return Err(reason),
            }
            memory.handed.insert(id, Instant::now());
        }
        Ok(())
    }

    async fn offer_more(&self, row: Row, head: &Head, outcome: &mut Outcome) -> Result<(), String> {
        match self.replace(row, head, Ask::Better, Batch::new()).await? {
            Replaced::Done(_, None) | Replaced::Changed => {}
            Replaced::Done(_, Some(trouble)) | Replaced::NoRoom(trouble) => {
                outcome.trouble = Some(trouble);
            }
        }
        Ok(())
    }
}
