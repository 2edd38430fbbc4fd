//! Compares the load generator with `wrk`, because the generator must not be the bottleneck.
//!
//! Both send the same requests from one core to a replica on the other core. The CPU time of the generator is that of this
//! whole process. The CPU time of wrk is that of its sending thread at the last reading, a few milliseconds before its end and
//! without its start: the difference favours wrk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::stage::{Stage, replica};
use super::steps::{reading, send, share, warm_up};
use super::work::{SHORT, Work};
use crate::data::{Contender, Reading};
use crate::stand::processes::threads;
use crate::stand::{Program, host};

/// The time between two readings of wrk's threads.
const LOOK: Duration = Duration::from_millis(5);

/// The two generators, and their replica.
#[derive(Debug)]
pub(super) struct Generators {
    wrk: PathBuf,
    core: Option<usize>,
    address: std::net::SocketAddr,
    time: Duration,
    _replica: Program,
}

impl Generators {
    /// Starts the replica; `None` if wrk is not installed.
    pub(super) async fn prepare(stage: &Stage, time: Duration) -> anyhow::Result<Option<Self>> {
        let Some(wrk) = host::find("wrk") else { return Ok(None) };
        let (address, replica) = replica("s1", stage.cores.proxy, None).await?;
        // wrk takes whole seconds.
        let time = Duration::from_secs(time.as_secs_f64().ceil().max(1.0) as u64);
        Ok(Some(Generators { wrk, core: stage.cores.load, address, time, _replica: replica }))
    }

    /// The two generators as contenders.
    pub(super) fn describe(&self) -> Vec<Contender> {
        let contender = |name: &str, version, setup: &str| Contender {
            name: name.to_owned(),
            version,
            setup: setup.to_owned(),
        };
        vec![
            contender("bench", env!("CARGO_PKG_VERSION").to_owned(), "one thread, checks every answer"),
            contender("wrk", host::version(&self.wrk), "-t1, with Connection: close"),
        ]
    }

    /// One turn of generator `number`; `None` if it was interrupted.
    pub(super) async fn step(
        &self,
        number: usize,
        seed: u64,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Reading>> {
        if number == 0 { self.bench(seed, stop).await } else { self.wrk(stop).await }
    }

    async fn bench(&self, seed: u64, stop: &CancellationToken) -> anyhow::Result<Option<Reading>> {
        let plan = Work::Generator.plan(self.address, 0.0, seed, self.time);
        let Some(_) = warm_up(&plan, stop).await? else { return Ok(None) };
        let before = own_cpu();
        let Some(load) = send(plan, stop).await? else { return Ok(None) };
        let spent = share(own_cpu().saturating_sub(before), &load);
        Ok(Some(reading(Work::Generator, &load, Some(spent))))
    }

    async fn wrk(&self, stop: &CancellationToken) -> anyhow::Result<Option<Reading>> {
        let child = self.start_wrk().context("cannot start wrk")?;
        let watched = stop.run_until_cancelled(watch(child)).await;
        let Some((said, cpu)) = watched.transpose()? else { return Ok(None) };
        ensure!(cpu > 0, "wrk ended before its CPU time could be read: {said}");
        let reading = reading_of(&said).with_context(|| format!("cannot parse the output of wrk: {said}"))?;
        Ok(Some(Reading { cpu_ns: Some(cpu), ..reading }))
    }

    /// Starts wrk so that it ends with this process.
    fn start_wrk(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "--parent", &std::process::id().to_string()]);
        if let Some(core) = self.core {
            command.args(["--core", &core.to_string()]);
        }
        command.arg("--").arg(&self.wrk).args(["-t1", &format!("-c{SHORT}")]);
        command.args([&format!("-d{}s", self.time.as_secs()), "-H", "Connection: close"]);
        command.arg(format!("http://{}/home?id=123456", self.address));
        command.process_group(0).kill_on_drop(true);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }
}

/// CPU time of this process so far, with that of threads that have ended, in nanoseconds.
fn own_cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Waits for wrk to end; returns its output, and the CPU time of the threads that it started.
async fn watch(child: Child) -> anyhow::Result<(String, u64)> {
    let pid = child.id().context("wrk has already ended")?;
    let mut seen = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK);
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = loop {
        tokio::select! {
            output = &mut output => break output?,
            // When wrk has ended, there is nothing to read.
            _ = look.tick() => seen.extend(threads(pid).unwrap_or_default()),
        }
    };
    ensure!(output.status.success(), "wrk failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let sent = seen.iter().filter(|(thread, _)| **thread != pid).map(|(_, time)| time).sum();
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), sent))
}

/// Parses the output of wrk.
fn reading_of(said: &str) -> Option<Reading> {
    let line = |part: &str| said.lines().find(|line| line.contains(part));
    let operations: f64 = line(" requests in ")?.split_whitespace().next()?.parse().ok()?;
    let rate: f64 = line("Requests/sec:")?.split_whitespace().last()?.parse().ok()?;
    // "Socket errors: connect 0, read 1, write 0, timeout 2", and "Non-2xx or 3xx responses: 4", where there are any.
    let numbers = |line: &str| -> u64 {
        let (_, counts) = line.split_once(':').unwrap_or_default();
        counts.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum()
    };
    let failures = ["Socket errors:", "Non-2xx"].into_iter().filter_map(line).map(numbers).sum();
    Some(Reading { operations, seconds: operations / rate, failures, ..Reading::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_wrk_is_parsed() {
        let said = "Running 1s test @ http://127.0.0.1:1/home\n  1 threads and 32 connections\n  Thread Stats   Avg\n  \
                    12000 requests in 1.10s, 1.66MB read\nRequests/sec:  10909.09\nTransfer/sec:      1.51MB\n";
        let reading = reading_of(said).unwrap();
        assert_eq!((reading.operations, reading.failures), (12_000.0, 0));
        assert!((reading.seconds - 1.1).abs() < 1e-6, "{}", reading.seconds);
        let errors =
            "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 8\n";
        assert_eq!(reading_of(&format!("{said}{errors}")).unwrap().failures, 15);
        assert!(reading_of("unable to connect to 127.0.0.1:1 Connection refused\n").is_none());
    }

    #[test]
    fn own_time_passes() {
        let before = own_cpu();
        while own_cpu() == before {}
    }
}
