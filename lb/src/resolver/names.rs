//! Names: which names a short one may stand for, in which order they are asked for, and which answer counts (resolv.conf(5)). Pure.

use std::collections::VecDeque;

use super::known::Answer;

/// The most domains of the search list that are tried.
const SEARCH: usize = 32;
/// The longest name in text, without its last dot (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;

/// The names to ask for, each with its last dot. A name with a last dot stands for itself. One with fewer dots than `ndots` is
/// looked for in the domains of the search list first, any other as it is first.
pub(super) fn candidates(name: &str, ndots: usize, search: &[String]) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let itself = format!("{name}.");
    let below = |domain: &String| match domain.trim_end_matches('.') {
        "" => itself.clone(),
        domain => format!("{name}.{domain}."),
    };
    let mut names: Vec<String> = search.iter().take(SEARCH).map(below).collect();
    let is_long = name.matches('.').count() >= ndots;
    names.insert(if is_long { 0 } else { names.len() }, itself.clone());
    let mut unique = Vec::with_capacity(names.len());
    for name in names.into_iter().filter(|name| name.len() <= LONGEST + 1) {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// The search for the name that another one stands for.
///
/// The first that has records is it. A failure of another one before it does not matter, as in getaddrinfo(3): a server may refuse
/// what is not its own. But once it is found, only its own word counts that it has no records any more: because it fails, no other
/// name takes its place.
#[derive(Debug)]
pub(super) struct Search {
    names: VecDeque<String>,
    /// The name that is asked for first was found before.
    is_found: bool,
    failure: Option<String>,
    nothing: Option<String>,
}

impl Search {
    /// A search among these names, one of which may have been `found` before.
    pub(super) fn new(names: Vec<String>, found: Option<&str>) -> Self {
        let mut names = VecDeque::from(names);
        let at = names.iter().position(|name| Some(name.as_str()) == found);
        if let Some(found) = at.and_then(|at| names.remove(at)) {
            names.push_front(found);
        }
        Search { names, is_found: at.is_some(), failure: None, nothing: None }
    }

    /// The name to ask for.
    pub(super) fn next(&mut self) -> Option<String> {
        self.names.pop_front()
    }

    /// Takes the answer for that name, and returns it if the search is over.
    pub(super) fn take<T>(&mut self, answer: Answer<T>) -> Option<Answer<T>> {
        let was_found = std::mem::take(&mut self.is_found);
        match answer {
            Answer::Nothing(why) => self.nothing = Some(why),
            Answer::Failed(why) if !was_found => _ = self.failure.get_or_insert(why),
            answer => return Some(answer),
        }
        None
    }

    /// What it comes to when no name had records.
    pub(super) fn end<T>(self) -> Answer<T> {
        match (self.failure, self.nothing) {
            (Some(why), _) => Answer::Failed(why),
            (None, Some(why)) => Answer::Nothing(why),
            (None, None) => Answer::Nothing("the name is too long".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The answer of a search among the names a, b and c, each of which answers as the letter says: records, nothing or failed; and
    /// the names that were asked for.
    fn search(found: Option<&str>, answers: [char; 3]) -> (String, char) {
        let mut search = Search::new(["a", "b", "c"].map(str::to_owned).into(), found);
        let mut asked = String::new();
        while let Some(name) = search.next() {
            asked.push_str(&name);
            let answer = match answers[usize::from(name.as_bytes()[0] - b'a')] {
                'r' => Answer::Records((), Duration::ZERO),
                'n' => Answer::Nothing(name),
                _ => Answer::Failed(name),
            };
            if let Some(answer) = search.take(answer) {
                return (asked, letter(&answer));
            }
        }
        (asked, letter(&search.end()))
    }

    fn letter(answer: &Answer<()>) -> char {
        match answer {
            Answer::Records(..) => 'r',
            Answer::Nothing(_) => 'n',
            Answer::Failed(_) => 'f',
        }
    }

    #[test]
    fn the_first_name_with_records_is_found_and_only_its_own_word_counts_then() {
        for (found, answers, asked, expected) in [
            (None, ['n', 'r', 'r'], "ab", 'r'),
            (None, ['f', 'r', 'n'], "ab", 'r'),
            (None, ['n', 'n', 'n'], "abc", 'n'),
            (None, ['n', 'f', 'n'], "abc", 'f'),
            (Some("b"), ['r', 'r', 'r'], "b", 'r'),
            (Some("b"), ['r', 'f', 'r'], "b", 'f'),
            (Some("b"), ['f', 'n', 'r'], "bac", 'r'),
            (Some("b"), ['f', 'n', 'n'], "bac", 'f'),
            (Some("x"), ['f', 'n', 'r'], "abc", 'r'),
        ] {
            assert_eq!(search(found, answers), (asked.to_owned(), expected), "{found:?}, {answers:?}");
        }
        assert_eq!(letter(&Search::new(Vec::new(), None).end()), 'n');
    }

    fn names(name: &str, ndots: usize) -> Vec<String> {
        let search = ["default.svc.cluster.local", "svc.cluster.local.", "svc.cluster.local"];
        candidates(name, ndots, &search.map(str::to_owned))
    }

    #[test]
    fn a_short_name_is_searched_for_first_and_a_long_one_last() {
        let below = ["web.default.svc.cluster.local.", "web.svc.cluster.local."];
        assert_eq!(names("web", 1), [below[0], below[1], "web."]);
        assert_eq!(names("web", 0), ["web.", below[0], below[1]]);
        assert_eq!(names("web.default", 5)[2], "web.default.");
        assert_eq!(names("web.default", 1)[0], "web.default.");
        assert_eq!(names("web.", 5), ["web."]);
        assert_eq!(candidates("web", 1, &[]), ["web."]);
        assert_eq!(candidates("web", 1, &[".".to_owned()]), ["web."], "the root is a domain, too");
    }

    #[test]
    fn a_name_that_is_too_long_is_left_out() {
        let long = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "x".repeat(50));
        assert_eq!(names(&long, 1), [format!("{long}.")]);
        assert_eq!(names(&"x".repeat(254), 1), Vec::<String>::new());
    }
}
