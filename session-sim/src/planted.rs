//! Defects that have to be found: the simulation can fail.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use session_core::planted::{self, Defect};

use crate::oracle::Violation;
use crate::plan::{Fleet, Plan};
use crate::world;

/// Plants the defect of this name in what this thread runs from now on.
pub(crate) fn plant(name: &str) -> Result<(), String> {
    let named = Defect::ALL.iter().copied().find(|defect| defect.name() == name);
    let defect = named.ok_or_else(|| {
        let names: Vec<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
        format!("no defect is called {name}; there are {}", names.join(", "))
    })?;
    planted::plant(Some(defect));
    Ok(())
}

/// Plants one after the other. Each has to be found within so many runs.
pub(crate) fn find_all(seeds: u64, fleet: Fleet, threads: usize) -> ExitCode {
    let (begun, mut missed) = (Instant::now(), 0);
    for sought in &SOUGHT {
        let name = sought.defect.name();
        match sought.find(seeds, fleet, threads) {
            Some((seed, violation)) => {
                let moved = if seed == sought.seed { "" } else { " (another seed than before)" };
                println!(
                    "{name:<24} seed {seed:>5}{moved}: {}: {}",
                    violation.kind, violation.text
                );
            }
            None => {
                missed += 1;
                let means = sought.defect.means();
                println!("{name:<24} not found in {seeds} runs: {means}");
            }
        }
    }
    let (all, seconds) = (SOUGHT.len(), begun.elapsed().as_secs_f64());
    println!("{} of {all} planted defects found in {seconds:.0} s", all - missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A defect that has to be found.
struct Sought {
    defect: Defect,
    /// A run of three nodes that shows it. Others are tried where it does so no more.
    seed: u64,
    /// The guarantees that it breaks. Another violation is not this defect's.
    breaks: &'static [&'static str],
}

const fn sought(defect: Defect, seed: u64, breaks: &'static [&'static str]) -> Sought {
    Sought { defect, seed, breaks }
}

impl Sought {
    /// A seed whose run shows it.
    fn find(&self, seeds: u64, fleet: Fleet, threads: usize) -> Option<(u64, Violation)> {
        if let Some(violation) = self.shows(self.seed, fleet) {
            return Some((self.seed, violation));
        }
        let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
        let first = Mutex::new(None::<(u64, Violation)>);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !found.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            return;
                        }
                        let Some(violation) = self.shows(seed, fleet) else { continue };
                        found.store(true, Ordering::Relaxed);
                        if let Ok(mut first) = first.lock()
                            && first.as_ref().is_none_or(|(known, _)| seed < *known)
                        {
                            *first = Some((seed, violation));
                        }
                    }
                });
            }
        });
        first.into_inner().ok().flatten()
    }

    /// What the run of a seed shows of the defect, and does not show without it.
    fn shows(&self, seed: u64, fleet: Fleet) -> Option<Violation> {
        let run = || world::run(&Plan::draw(seed, fleet), false).violation;
        planted::plant(Some(self.defect));
        let violation = run();
        planted::plant(None);
        let violation = violation.filter(|found| self.breaks.contains(&found.kind))?;
        run().is_none().then_some(violation)
    }
}

/// Each with the run that showed it last: most take one run then.
const SOUGHT: [Sought; 59] = [
    sought(Defect::CursorBeforeApply, 0, &["told", "revoked", "claims", "wait"]),
    sought(Defect::HintIsTruth, 27, &["stale", "revoked", "bound"]),
    sought(Defect::GapIgnored, 15, &["told", "revoked", "stale"]),
    sought(Defect::MissedUntold, 83, &["told"]),
    sought(Defect::TrimUnseen, 83, &["told", "revoked"]),
    sought(Defect::UnknownEventIgnored, 197, &["claims", "revoked"]),
    sought(Defect::ClaimsIgnored, 12, &["claims"]),
    sought(Defect::RotationUnheard, 111, &["retired"]),
    sought(Defect::StreamLeftOpen, 3, &["wait"]),
    sought(Defect::FillAfterRevoke, 250, &["own revocation", "revoked", "claims"]),
    sought(Defect::EndedForgotten, 709, &["own revocation", "revoked"]),
    sought(Defect::OwnCacheKept, 31, &["own revocation"]),
    sought(Defect::StaleTrusted, 291, &["stale"]),
    sought(Defect::StoppedTrusted, 313, &["stopped"]),
    sought(Defect::MonotonicOnly, 1364, &["stale"]),
    sought(Defect::OutageIsRefusal, 9, &["refused"]),
    sought(Defect::JoinedReadTrusted, 5, &["refused"]),
    sought(Defect::WallClock, 13, &["in use", "refused", "expired", "freshness"]),
    sought(Defect::IdleUnverified, 91, &["refused"]),
    sought(Defect::IdleEndsAtOnce, 651, &["in use"]),
    sought(Defect::SweepByNode, 51, &["not overdue", "in use"]),
    sought(Defect::SweepEager, 0, &["not overdue"]),
    sought(Defect::NeverExpires, 91, &["expired"]),
    sought(Defect::PassiveCounts, 0, &["expired"]),
    sought(Defect::FlushLost, 11, &["not written back", "not claimed"]),
    sought(Defect::EvictionLost, 740, &["not written back", "not claimed"]),
    sought(Defect::TouchBackwards, 3, &["backwards"]),
    sought(Defect::TouchResurrects, 9, &["resurrection"]),
    sought(Defect::ClaimUnstored, 1, &["not claimed"]),
    sought(Defect::NoHalfIdleRule, 91, &["refused", "in use"]),
    sought(Defect::NoQuarterIdleRule, 33, &["in use", "refused"]),
    sought(Defect::RandomSuccessor, 15, &["successor"]),
    sought(Defect::GraceFromBegin, 4, &["grace"]),
    sought(Defect::ConfirmSkipped, 2, &["not confirmed"]),
    sought(Defect::TheftUnseen, 23, &["theft"]),
    sought(Defect::StepUpLeaks, 37, &["freshness"]),
    sought(Defect::StepUpAtOnce, 2, &["freshness"]),
    sought(Defect::RetiredForever, 43, &["retired"]),
    sought(Defect::StaleDecision, 22, &["limit"]),
    sought(Defect::OwnAttemptUnseen, 1505, &["not full", "newest", "limit", "locked out"]),
    sought(Defect::ConflictGivesUp, 3, &["unavailable"]),
    sought(Defect::OffByOne, 0, &["limit"]),
    sought(Defect::RejectsAcrossScopes, 12, &["not full"]),
    sought(Defect::NewestEvicted, 360, &["order"]),
    sought(Defect::UnclaimedBlocks, 38, &["not full"]),
    sought(Defect::TakeBackOnce, 61, &["nobody holds"]),
    sought(Defect::CallerGoneCommits, 1, &["odd"]),
    sought(Defect::GoneCallerKept, 52, &["nobody holds"]),
    sought(Defect::TicketTwice, 118, &["ticket"]),
    sought(Defect::SameDeviceAdds, 1, &["locked out", "not full"]),
    sought(Defect::BlockUnchecked, 2, &["block"]),
    sought(Defect::BlockRace, 3, &["block"]),
    sought(Defect::BlockKeepsSessions, 1, &["block"]),
    sought(Defect::LeaseIgnored, 0, &["lease"]),
    sought(Defect::LeaseOnce, 0, &["lease"]),
    sought(Defect::ToldTwice, 0, &["told"]),
    sought(Defect::DataOverwritten, 1, &["lost update"]),
    sought(Defect::HistoryLost, 1, &["history"]),
    sought(Defect::TenantIgnored, 1, &["selection"]),
];

/// What the simulation does not find: a page of the log is longer than what happens in a run, a session ends
/// as unused only when no use can be on its way any more, and where the follower is late, requests read the
/// log themselves. Tests of the engine and of the kit do find each of them.
#[cfg(test)]
const BEYOND: [Defect; 4] =
    [Defect::HalfRead, Defect::OutageForgotten, Defect::UseUnchecked, Defect::PushOnly];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_is_sought_but_those_that_are_beyond() {
        let sought = |defect: &Defect| SOUGHT.iter().filter(|it| it.defect == *defect).count();
        for defect in Defect::ALL {
            assert_eq!(sought(defect) + usize::from(BEYOND.contains(defect)), 1, "{defect:?}");
        }
    }
}
