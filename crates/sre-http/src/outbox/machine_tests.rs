use sre_core::Spool;

use super::super::simulation::{Answer, EVENT_BYTES, LIMITS, PATIENT, QUEUE, World};
use super::super::state_spool::state_queue;
use super::*;

/// Runs until nothing more is sent. Returns the sizes of the batches of events.
fn send_all(world: &mut World, answer: impl Fn(usize) -> Answer) -> Vec<usize> {
    let mut sizes = Vec::new();
    loop {
        world.work();
        let Some(sent) = &world.sent else { return sizes };
        let size = match sent {
            Outgoing::Events(events) => events.len(),
            Outgoing::State(state) => state.len(),
        };
        sizes.push(size);
        world.answer(&answer(size));
    }
}

#[test]
fn a_batch_is_sent_when_it_is_full_or_its_first_event_has_waited_long_enough() {
    let mut world = World::new(LIMITS, false);
    world.push(9);
    assert_eq!(send_all(&mut world, |_| Answer::Success), [4, 4]);
    world.now = world.now.saturating_add(LIMITS.max_delay);
    assert_eq!(send_all(&mut world, |_| Answer::Success), [1]);
    let mut world = World::new(OutboxLimits { batch_bytes: 2 * EVENT_BYTES, ..LIMITS }, false);
    world.push(5);
    assert_eq!(send_all(&mut world, |_| Answer::Success), [2, 2], "by bytes");
}

#[test]
fn an_answer_of_413_halves_a_batch_down_to_the_one_event_that_is_dropped() {
    let mut world = World::new(LIMITS, false);
    world.push(4);
    let sizes = send_all(&mut world, |size| if size > 1 { Answer::Status(413) } else { Answer::Success });
    assert_eq!(sizes, [4, 2, 1, 1, 2, 1, 1]);
    assert_eq!(world.accepted, [0, 1, 2, 3]);
    world.push(4);
    send_all(&mut world, |_| Answer::Status(413));
    assert_eq!(world.machine.stats.events.dropped[&DropReason::TooLarge], 4);
}

#[test]
fn retries_wait_longer_each_time_and_not_less_than_the_backend_asks() {
    let mut world = World::new(PATIENT, false);
    world.push(4);
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.work();
        world.answer(&Answer::Status(503));
        let Step::Wait(Some(wait)) = world.machine.step(world.now) else { panic!("it waits") };
        waits.push(wait.as_millis());
        world.now = world.now.saturating_add(wait);
    }
    assert_eq!(waits, [750, 1_500, 3_000, 6_000], "three quarters of the doubling wait");
    world.work();
    world.sent = None;
    let asked = ExportError::Rejected {
        exporter: QUEUE.to_owned(),
        status: 429,
        message: String::new(),
        retry_after: Some(Duration::from_secs(50)),
    };
    world.machine.settle(Err(asked), world.now, 0.5);
    assert!(matches!(world.machine.step(world.now), Step::Wait(Some(wait)) if wait == Duration::from_secs(50)));
    assert_eq!(world.machine.stats.retries, 5);
}

#[test]
fn a_batch_that_the_backend_cannot_digest_is_given_up_and_one_that_it_never_saw_is_not() {
    let mut world = World::new(PATIENT, false);
    world.push(5);
    for (status, dropped) in [(503, 0), (500, 4)] {
        for _ in 0..5 {
            world.work();
            assert!(world.answer(&Answer::Status(status)));
            world.now = world.now.saturating_add(Duration::from_secs(300));
        }
        let given_up = world.machine.stats.events.dropped.get(&DropReason::RetriesExhausted);
        assert_eq!(given_up.copied().unwrap_or_default(), dropped, "{status}");
    }
}

#[test]
fn a_batch_that_the_backend_rejects_counts_as_rejected_with_its_reason() {
    let mut world = World::new(LIMITS, false);
    world.push(4);
    assert_eq!(send_all(&mut world, |_| Answer::Status(400)), [4]);
    world.push(4);
    assert_eq!(send_all(&mut world, |_| Answer::Invalid), [4]);
    world.now = world.now.saturating_add(LIMITS.interval);
    assert_eq!(send_all(&mut world, |_| Answer::Status(422)), [3]);
    let OutboxStats { events, state, .. } = world.machine.stats();
    assert_eq!(
        (events.rejected["test answered 400: too old"], &events.dropped),
        (4, &[(DropReason::Invalid, 4)].into())
    );
    assert_eq!((state.rejected["test answered 422: too old"], state.dropped.len()), (3, 0));
}

#[test]
fn metrics_that_the_backend_may_take_later_are_sent_again_without_the_others() {
    let mut world = World::new(LIMITS, false);
    world.now = world.now.saturating_add(LIMITS.interval);
    world.work();
    world.answer(&Answer::Partial(vec![2, 0, 2]));
    world.now = world.now.saturating_add(Duration::from_secs(5));
    assert_eq!(send_all(&mut world, |_| Answer::Success), [2], "the other is not sent again");
    let stats = world.machine.stats();
    assert_eq!((stats.state.sent, stats.state.dropped.len(), stats.retries), (3, 0, 1));
    world.now = world.now.saturating_add(LIMITS.interval);
    let mut attempts = 0;
    while world.machine.stats.state.dropped.is_empty() {
        world.work();
        attempts += u32::from(world.answer(&Answer::Partial(vec![2])));
        world.now = world.now.saturating_add(Duration::from_secs(5));
    }
    assert_eq!((attempts, world.machine.stats.state.dropped[&DropReason::RetriesExhausted]), (5, 3));
}

#[test]
fn rejected_credentials_pause_it_until_it_is_resumed() {
    let mut world = World::new(LIMITS, false);
    world.push(4);
    assert_eq!(send_all(&mut world, |_| Answer::Status(401)), [4]);
    world.now = world.now.saturating_add(Duration::from_secs(300));
    assert_eq!(send_all(&mut world, |_| Answer::Success), [] as [usize; 0]);
    assert!(world.machine.stats().is_halted);
    world.machine.resume();
    assert_eq!(send_all(&mut world, |_| Answer::Success)[..], [3, 4], "metrics and events");
    assert_eq!(world.machine.stats.last_error, "");
}

#[test]
fn a_backend_that_is_away_costs_nothing_where_there_is_a_spool() {
    let mut world =
        World::new(OutboxLimits { spool_bytes: 1 << 20, max_age: Duration::from_secs(7_200), ..LIMITS }, true);
    for _ in 0..600 {
        world.push(5);
        world.work();
        world.answer(&Answer::Status(503));
        world.work();
        world.now = world.now.saturating_add(Duration::from_secs(6));
    }
    world.kill();
    world.finish();
    assert_eq!(world.accepted, (0..3_000).collect::<Vec<u64>>(), "after an hour and a restart, in order");
}

#[test]
fn what_is_too_old_is_dropped_from_memory_and_from_the_spool() {
    for has_spool in [false, true] {
        let mut world = World::new(LIMITS, has_spool);
        world.push(9);
        world.work();
        world.answer(&Answer::Status(503));
        world.work();
        world.now = world.now.saturating_add(LIMITS.max_age + Duration::from_secs(1));
        world.push(1);
        world.finish();
        assert_eq!(world.accepted, [9]);
        assert_eq!(world.machine.stats.events.dropped[&DropReason::Expired], 9);
    }
}

#[test]
fn metrics_of_an_outage_are_sent_after_it_and_fewer_of_them_if_it_is_long() {
    for (minutes, received, superseded) in [(4, 12, 0), (5, 15, 6), (60, 36, 24)] {
        let mut world = World::new(LIMITS, false);
        for _ in 0..minutes {
            world.now = world.now.saturating_add(LIMITS.interval);
            world.work();
            world.answer(&Answer::Status(503));
            world.check();
        }
        world.machine.resume();
        send_all(&mut world, |_| Answer::Success);
        let state = &world.machine.stats.state;
        let dropped = state.dropped.get(&DropReason::Superseded).copied().unwrap_or_default();
        assert_eq!((state.received, dropped, state.sent), (received, superseded, received - superseded));
        // Afterwards, at the configured interval again.
        for more in 1..=3 {
            world.now = world.now.saturating_add(LIMITS.interval);
            send_all(&mut world, |_| Answer::Success);
            assert_eq!(world.machine.stats.state.received, received + 3 * more);
        }
    }
}

#[test]
fn metrics_of_an_outage_survive_a_kill_if_there_is_a_spool() {
    for minutes in [1, 4, 60] {
        let mut world = World::new(LIMITS, true);
        for _ in 0..minutes {
            world.now = world.now.saturating_add(LIMITS.interval);
            world.work();
            world.answer(&Answer::Status(503));
            world.work();
            world.check();
            let spooled = world.spool.as_ref().unwrap().size(&state_queue(QUEUE)).unwrap().records;
            assert_eq!(spooled, world.machine.stats().state_queue_length, "the spool has what memory has");
        }
        let times = |world: &World| world.machine.states.iter().map(|reading| reading.state.at).collect::<Vec<_>>();
        let waiting = times(&world);
        world.kill();
        world.work();
        assert_eq!(times(&world), waiting);
        assert!(matches!(&world.sent, Some(Outgoing::State(state)) if state.at == waiting[0]));
        let restored = world.machine.stats.state.restored;
        assert_eq!(restored, 3 * waiting.len() as u64);
        world.answer(&Answer::Success);
        world.finish();
        let state = &world.machine.stats.state;
        assert_eq!((state.sent, state.received), (restored + 3, 3), "with the reading of the flush");
    }
}

#[test]
fn a_copy_of_metrics_in_the_spool_is_kept_until_no_part_of_them_is_left() {
    let mut world = World::new(LIMITS, true);
    world.now = world.now.saturating_add(LIMITS.interval);
    world.work();
    world.answer(&Answer::Status(503));
    world.work();
    world.machine.resume();
    world.work();
    world.answer(&Answer::Partial(vec![0, 2, 0]));
    world.kill();
    world.work();
    assert_eq!(world.machine.stats.state.restored, 3, "the accepted ones are sent again");
    world.answer(&Answer::Success);
    world.finish();
}

#[test]
fn a_damaged_metric_in_the_spool_is_counted_and_the_others_are_sent() {
    let mut world = World::new(LIMITS, true);
    let spool = world.spool.as_ref().unwrap();
    let metric = br#"{"collected_at":1790000000,"at":1789999999,"record":{"metric":{"name":"m","help":"","unit":"none","labels":[],"value":{"gauge":"NaN"}}}}"#;
    spool.append(&state_queue(QUEUE), &[b"{", metric, b""]).unwrap();
    world.work();
    let Some(Outgoing::State(state)) = &world.sent else { panic!("{:?}", world.sent) };
    assert_eq!((state.at, state.metrics.len()), (Timestamp::from_secs(1_789_999_999), 1));
    world.answer(&Answer::Success);
    world.finish();
    let state = &world.machine.stats.state;
    assert_eq!((state.restored, state.dropped[&DropReason::Unreadable]), (3, 2));
}

#[test]
fn metrics_that_are_too_large_together_are_sent_apart() {
    let mut world = World::new(LIMITS, false);
    world.now = world.now.saturating_add(LIMITS.interval);
    let sizes = send_all(&mut world, |size| if size > 1 { Answer::Status(413) } else { Answer::Success });
    assert_eq!((sizes, world.machine.stats.state.sent), (vec![3, 1, 2, 1, 1], 3));
}

#[test]
fn metrics_are_collected_while_the_backend_takes_none() {
    let mut world = World::new(OutboxLimits { queue_state: 1_000, ..LIMITS }, false);
    world.now = world.now.saturating_add(LIMITS.interval);
    world.work();
    let refused = ExportError::Rejected {
        exporter: QUEUE.to_owned(),
        status: 429,
        message: "busy".to_owned(),
        retry_after: Some(Duration::from_secs(600)),
    };
    world.sent = None;
    world.machine.settle(Err(refused), world.now, 0.5);
    for _ in 0..9 {
        world.now = world.now.saturating_add(LIMITS.interval);
        world.work();
        assert!(world.sent.is_none(), "it waits as long as the backend asks");
    }
    world.now = world.now.saturating_add(LIMITS.interval);
    send_all(&mut world, |_| Answer::Success);
    assert_eq!((world.machine.stats.state.received, world.machine.stats.state.sent), (33, 33));
}

/// As where a backend takes events at one address and metrics at another.
#[test]
fn metrics_that_cannot_be_sent_hold_up_no_event() {
    let mut world = World::new(LIMITS, false);
    for round in 1..=5 {
        world.push(4);
        world.now = world.now.saturating_add(LIMITS.interval);
        for _ in 0..4 {
            world.work();
            let is_state = matches!(world.sent, Some(Outgoing::State(_)));
            world.answer(if is_state { &Answer::Status(503) } else { &Answer::Success });
            world.now = world.now.saturating_add(Duration::from_secs(10));
        }
        assert_eq!(world.accepted.len(), 4 * round, "{:?}", world.machine.stats);
    }
    assert_eq!(world.machine.stats.state.sent, 0);
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let mut world = World::new(LIMITS, false);
    world.push(25);
    assert_eq!(world.machine.stats.events.dropped[&DropReason::QueueFull], 5);
    world.finish();
    assert_eq!(world.accepted, (0..20).collect::<Vec<u64>>());
}
