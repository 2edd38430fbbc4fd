//! How a contender looks: the same in every chart of a comparison.

use chart::colour::{BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED};
use chart::{Look, Shape, Swatch};

use crate::data::Comparison;

/// The contender without a proxy.
const DIRECT: &str = "direct";

/// The look of the contender at a place: `lb`, its hand-off and any `lb` that is watched have colours of their own, no proxy is grey,
/// and the peers follow in their order.
pub(super) fn look(comparison: &Comparison, who: usize) -> Look {
    const PEERS: [Look; 4] = [
        Look { colour: RED, shape: Shape::Square },
        Look { colour: PURPLE, shape: Shape::Diamond },
        Look { colour: ORANGE, shape: Shape::Cross },
        Look { colour: INK, shape: Shape::Bar },
    ];
    let is_ours = |at: usize| at == 0 || Some(at) == comparison.handoff() || comparison.is_watched(at);
    match comparison.contenders.get(who).map(|contender| contender.name.as_str()) {
        Some(DIRECT) => Look { colour: GREY, shape: Shape::Ring },
        _ if who == 0 => Look { colour: BLUE, shape: Shape::Disc },
        _ if comparison.is_watched(who) => Look { colour: INK, shape: Shape::Disc },
        _ if is_ours(who) => Look { colour: GREEN, shape: Shape::Triangle },
        _ => PEERS[(0..who).filter(|&at| !is_ours(at)).count() % PEERS.len()],
    }
}

/// The entry of a legend for a contender.
pub(super) fn entry(comparison: &Comparison, who: usize) -> (Swatch, String) {
    (Swatch::Marked(look(comparison, who)), comparison.contenders[who].name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::HANDOFF;
    use crate::report::samples::contender;

    #[test]
    fn no_two_contenders_look_alike_and_none_changes_when_another_takes_part() {
        let among = |names: &[&str]| Comparison {
            contenders: names.iter().map(|name| contender(name)).collect(),
            ..Comparison::default()
        };
        let all = among(&["lb", HANDOFF, "haproxy", "nginx", "direct"]);
        let looks: Vec<Look> = (0..5).map(|who| look(&all, who)).collect();
        for (at, one) in looks.iter().enumerate() {
            assert!(looks[..at].iter().all(|other| other.colour != one.colour && other.shape != one.shape));
        }
        let without = among(&["lb", "haproxy", "nginx", "direct"]);
        assert_eq!([0, 1, 2, 3].map(|who| look(&without, who)), [looks[0], looks[2], looks[3], looks[4]]);
        let watched = among(&["lb", "lb everything", HANDOFF, "haproxy", "nginx", "direct"]);
        assert_eq!([0, 2, 3, 4, 5].map(|who| look(&watched, who)).as_slice(), looks.as_slice());
        assert!(!looks.contains(&look(&watched, 1)));
    }
}
