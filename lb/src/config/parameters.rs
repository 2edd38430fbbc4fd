//! The flags that say what a mapping is made of; `lb serve` and `lb simulate` have them both.

use clap::Args;
use clap::builder::ValueParser;
use mapping::{Algorithm, MappingName, Probing, RequestHash, Scheme, Seed, ServerHash, SlotsShape};

use super::Problems;
use super::value::{self, Checked};

/// The parameters of the mappings.
#[derive(Clone, Debug, Args)]
pub(super) struct Parameters {
    /// ring: positions of each slot
    #[arg(long, env = "LB_POINTS", value_name = "N", default_value = "1000", allow_hyphen_values = true, value_parser = ValueParser::new(value::points))]
    pub(super) points: Checked<u32>,
    /// slots: size of the table, M
    #[arg(long, env = "LB_SLOTS", value_name = "M", default_value = "512", allow_hyphen_values = true, value_parser = ValueParser::new(value::slots))]
    pub(super) slots: Checked<u32>,
    /// slots: virtual servers of each server, K
    #[arg(long = "virtual", env = "LB_VIRTUAL", value_name = "K", default_value = "9", allow_hyphen_values = true, value_parser = ValueParser::new(value::virtuals))]
    pub(super) virtuals: Checked<u32>,
    /// slots: what follows a collision, linear or quadratic
    #[arg(long, env = "LB_PROBING", value_name = "NAME", default_value = "linear", value_parser = ValueParser::new(value::probing))]
    pub(super) probing: Checked<Probing>,
    /// slots: where request i falls, modulo M; u64 with + - * / % & | << >>, ^ or pow(a, b), parentheses, 0x1F
    #[arg(long, env = "LB_REQUEST_HASH", value_name = "EXPR", default_value = RequestHash::CLASSIC, allow_hyphen_values = true, value_parser = ValueParser::new(value::request_hash))]
    pub(super) request_hash: Checked<RequestHash>,
    /// slots: where virtual server j = 0 .. K-1 of server i wants to be, modulo M
    #[arg(long, env = "LB_SERVER_HASH", value_name = "EXPR", default_value = ServerHash::CLASSIC, allow_hyphen_values = true, value_parser = ValueParser::new(value::server_hash))]
    pub(super) server_hash: Checked<ServerHash>,
    /// Keys the hash, so that nobody who does not know the number can tell which ids fall on one replica [default: not keyed]
    #[arg(long, env = "LB_HASH_SEED", value_name = "NUMBER", default_value = "0", hide_default_value = true, hide_env_values = true, allow_hyphen_values = true, value_parser = ValueParser::new(value::hash_seed))]
    pub(super) hash_seed: Checked<u64>,
}

impl Parameters {
    /// The mapping of a name with its parameters. All of them are checked, whatever the name is.
    pub(super) fn scheme(self, name: MappingName, problems: &mut Problems) -> Scheme {
        let points = problems.take("points", self.points, 1);
        let defaults = SlotsShape::default();
        let shape = SlotsShape {
            slots: problems.take("slots", self.slots, defaults.slots),
            virtuals: problems.take("virtual", self.virtuals, defaults.virtuals),
            probing: problems.take("probing", self.probing, defaults.probing),
            request_hash: problems.take("request-hash", self.request_hash, defaults.request_hash),
            server_hash: problems.take("server-hash", self.server_hash, defaults.server_hash),
        };
        let algorithm = match name {
            MappingName::Ring => Algorithm::Ring { points },
            MappingName::Slots => Algorithm::Slots(shape),
            MappingName::Maglev | MappingName::Rendezvous => Algorithm::named(name),
        };
        Scheme { algorithm, seed: Seed(problems.take("hash-seed", self.hash_seed, 0)) }
    }
}
