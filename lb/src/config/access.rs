//! `--access-log`: which connections are logged, how and where.

use clap::Args;
use clap::builder::ValueParser;

use super::Problems;
use super::value::{self, Checked};
use crate::access::format::Format;
use crate::access::{AccessRules, Destination};

/// The flags of the log of connections.
#[derive(Args, Clone, Debug)]
pub(super) struct AccessFlags {
    /// Append a line for each connection that has ended or was refused to this file; - is stdout
    #[arg(long = "access-log", help_heading = "Log", env = "LB_ACCESS_LOG", value_name = "FILE|-", value_parser = ValueParser::new(value::destination))]
    access_log: Option<Checked<Destination>>,
    /// The form of such a line: text, json, or a template such as '{time} {client} {slot} {total}'
    #[arg(long = "access-log-format", help_heading = "Log", env = "LB_ACCESS_LOG_FORMAT", value_name = "text|json|TEMPLATE", default_value = "text", value_parser = ValueParser::new(value::access_format))]
    access_log_format: Checked<Format>,
    /// Log one in N of the connections that end as they should; all others are logged
    #[arg(long = "access-log-sample", help_heading = "Log", env = "LB_ACCESS_LOG_SAMPLE", value_name = "1/N", default_value = "1/1", value_parser = ValueParser::new(value::sample))]
    access_log_sample: Checked<u32>,
}

/// Reads the flags.
pub(super) fn read(flags: AccessFlags, problems: &mut Problems) -> Option<AccessRules> {
    let format = problems.take("access-log-format", flags.access_log_format.map(Some), None);
    let sample = problems.take("access-log-sample", flags.access_log_sample, 1);
    let to = problems.take("access-log", flags.access_log?, Destination::Stdout);
    Some(AccessRules { to, format: format?, sample })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{good, problems, words};

    use super::*;

    #[test]
    fn connections_are_logged_where_they_should_be() {
        assert_eq!(good(&[]).access, None);
        assert_eq!(good(&words("--access-log-format json --access-log-sample 1/9")).access, None);
        let text = "text".parse::<Format>().unwrap();
        let rules = good(&words("--access-log -")).access.unwrap();
        assert_eq!(rules, AccessRules { to: Destination::Stdout, format: text, sample: 1 });
        let rules = good(&words("--access-log a.log --access-log-format json --access-log-sample 1/100"))
            .access
            .unwrap();
        let expected = AccessRules {
            to: Destination::File("a.log".into()),
            format: "json".parse().unwrap(),
            sample: 100,
        };
        assert_eq!(rules, expected);
    }

    #[test]
    fn wrong_forms_and_samples_are_refused() {
        let found =
            problems(&["--access-log", "", "--access-log-format", "{slto}", "--access-log-sample", "10"]);
        let [format, sample, to] = &found[..] else { panic!("{found:?}") };
        assert!(
            format.starts_with("--access-log-format: invalid value `{slto}`: expected only names of fields"),
            "{format}"
        );
        assert!(format.ends_with("the nearest is {slot}"), "{format}");
        assert_eq!(
            sample,
            "--access-log-sample: invalid value `10`: expected 1/N with a whole number N from 1 to 1000000000"
        );
        assert_eq!(to, "--access-log: invalid value ``: expected the name of a file, or - for stdout");
        for wrong in ["1/0", "2/3", "1/", "1/1000000001", "1/-1", "off"] {
            assert_eq!(problems(&["--access-log-sample", wrong]).len(), 1, "{wrong}");
        }
    }
}
