//! Independent work on as many threads as there are processors. What each gives does not depend on the others, so the result is always the
//! same.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread::{available_parallelism, scope};

/// The results for all items, in their order.
///
/// # Errors
/// The first error, by the order of the items.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let threads = available_parallelism().map_or(1, NonZero::get);
    // The last ones are begun first: they are the largest, and would be waited for.
    let left = Mutex::new((0..items.len()).collect::<Vec<usize>>());
    let next = || left.lock().ok()?.pop();
    let mut done: Vec<(usize, anyhow::Result<R>)> = scope(|scope| {
        let worker = || std::iter::from_fn(next).map(|at| (at, work(&items[at]))).collect::<Vec<_>>();
        let workers: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(worker)).collect();
        // A panic of a worker goes on here.
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(
            map(&items, |item| Ok(item * 2)).unwrap(),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        assert_eq!(map(&[] as &[u32], |item| Ok(*item)).unwrap(), [0; 0]);
    }

    #[test]
    fn the_first_error_counts() {
        let odd = |item: &u32| if item % 2 == 1 { anyhow::bail!("{item} is odd") } else { Ok(*item) };
        assert_eq!(map(&[0, 3, 2, 1], odd).unwrap_err().to_string(), "3 is odd");
    }
}
