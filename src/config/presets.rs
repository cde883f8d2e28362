//! The public deployments of the market: what `[chain] network = "…"` stands for.

use super::{Chain, Problems};

/// Chain id and addresses of one deployment.
struct Preset {
    name: &'static str,
    chain_id: u64,
    config: &'static str,
    entities: &'static str,
    market: &'static str,
    token: &'static str,
}

const PRESETS: [Preset; 3] = [
    // The addresses that the contracts' own deploy script gives on a fresh local chain.
    Preset {
        name: "hardhat",
        chain_id: 31337,
        config: "0x3Aa5ebB10DC797CAC828524e59A333d0A371443c",
        entities: "0x59b670e9fA9D0A427751Af201D676719a970857b",
        market: "0x09635F643e140090A9A8Dcd712eD6285858ceBef",
        token: "0x959922bE3CAee4b8Cd9a407cc3ac1C251C2007B1",
    },
    Preset {
        name: "chiado",
        chain_id: 10_200,
        config: "0x4556d5C1486d799f67FA96c84F1d0552486CAAF4",
        entities: "0x4EcB659060Da61D795D777bb21BAe3599b301C66",
        market: "0xF54784206A53EF19fd3024D8cdc7A6251A4A0d67",
        token: "0x8CB96383609C56af1Fe44DB7591F94AEE2fa43b2",
    },
    Preset {
        name: "zkevm-testnet",
        chain_id: 1442,
        config: "0x098b1d12cAfE7315C77b6d308A62ce02806260Ee",
        entities: "0x4bB51528C83844b509E1152EEb05260eE1bf60e6",
        market: "0xDd5B6ffB3585E109ECddec5293e31cdc1e9DeD57",
        token: "0x4d60F4483BaA654CdAF1c5734D9E6B16735efCF8",
    },
];

impl Chain {
    /// Fills in what the named network knows and the configuration leaves out. Does nothing for an unknown
    /// name, which `check` reports.
    pub fn resolve(&mut self) {
        let Some(preset) = PRESETS.iter().find(|p| p.name == self.network) else {
            return;
        };
        if self.chain_id == Chain::default().chain_id {
            self.chain_id = preset.chain_id;
        }
        for (held, known) in [
            (&mut self.config, preset.config),
            (&mut self.entities, preset.entities),
            (&mut self.market, preset.market),
            (&mut self.token, preset.token),
        ] {
            if held.is_empty() {
                known.clone_into(held);
            }
        }
    }

    pub(super) fn check_network(&self, problems: &mut Problems) {
        if self.network.is_empty() {
            return;
        }
        let names = PRESETS.map(|p| p.name).join(", ");
        match PRESETS.iter().find(|p| p.name == self.network) {
            None => problems.add(
                "chain.network",
                format!("`{}` is not a known network", self.network),
                format!("{names}, or empty with the addresses given"),
            ),
            Some(preset) => problems.check(
                self.chain_id == preset.chain_id,
                "chain.chain_id",
                format!("{} is not {}'s", self.chain_id, self.network),
                "left out, or the network's own",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_network_brings_its_addresses_and_what_is_given_stands() {
        for preset in &PRESETS {
            let mut chain = Chain {
                network: preset.name.to_owned(),
                market: "0x0000000000000000000000000000000000000001".to_owned(),
                ..Chain::default()
            };
            chain.resolve();
            assert_eq!(chain.chain_id, preset.chain_id);
            assert_eq!(chain.config, preset.config);
            assert!(chain.market.ends_with("01"));
            let mut problems = Problems::default();
            chain.check(&mut problems);
            assert!(problems.is_empty(), "{problems}");
        }
        let mut chain = Chain {
            network: "mars".to_owned(),
            ..Chain::default()
        };
        chain.resolve();
        let mut problems = Problems::default();
        chain.check(&mut problems);
        assert!(
            problems.to_string().contains("hardhat, chiado"),
            "{problems}"
        );
    }
}
