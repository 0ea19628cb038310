use sre_core::{JournalEntry, JournalStore, Timestamp};

/// Tests a journal, empty at first. `open` opens it; the handle before was dropped:
///
/// - a restart finds the snapshot, and the entries after it in their order, as they were appended;
/// - numbers grow by one and are never reused, also when a snapshot covers every entry;
/// - a snapshot deletes the entries that it covers, and no others;
/// - a replay ends when it is asked to.
///
/// # Panics
/// Panics if the journal does not conform.
pub fn journal_store(open: &dyn Fn() -> Box<dyn JournalStore>) {
    let journal = open();
    assert_eq!(journal.snapshot().expect("the journal works"), None);
    assert_eq!(entries(&*journal, 0), []);
    let large = vec![9; 200_000];
    let bodies: [&[u8]; 4] = [b"first", b"", &large, b"fourth"];
    assert_eq!(journal.append(&[entry(0, bodies[0]), entry(1, bodies[1])]).expect("the journal works"), 2);
    assert_eq!(journal.append(&[entry(2, bodies[2])]).expect("the journal works"), 3);
    let expected: Vec<_> = (1..=3).zip(bodies).map(|(number, body)| (number, body.to_vec())).collect();
    drop(journal);

    let journal = open();
    assert_eq!(entries(&*journal, 0), expected, "after a restart");
    assert_eq!(entries(&*journal, 1), expected[1..], "after an entry");
    let mut seen = 0;
    journal.replay(0, &mut |_, _| std::mem::replace(&mut seen, 1) == 1).expect("the journal works");
    assert_eq!(seen, 1, "the replay ended after the first entry");
    let before = journal.size().expect("the journal works");
    journal.put_snapshot(2, b"both").expect("the journal works");
    assert_eq!(journal.append(&[entry(3, bodies[3])]).expect("the journal works"), 4);
    drop(journal);

    let journal = open();
    assert_eq!(journal.snapshot().expect("the journal works"), Some((2, b"both".to_vec())));
    assert_eq!(entries(&*journal, 0), [(3, large), (4, b"fourth".to_vec())]);
    journal.put_snapshot(4, b"all").expect("the journal works");
    assert!(journal.size().expect("the journal works") < before, "what the snapshot covers takes no space");
    drop(journal);

    let journal = open();
    assert_eq!(entries(&*journal, 4), []);
    assert_eq!(journal.append(&[entry(4, b"fifth")]).expect("the journal works"), 5, "a number is never reused");
}

fn entry(number: u8, body: &[u8]) -> JournalEntry<'_> {
    let key = number.is_multiple_of(2).then_some([number; 16]);
    JournalEntry::new(Timestamp::from_secs(1_790_000_000 + i64::from(number)), "sre", key, body)
}

/// Returns the numbers and bodies of the entries after a number, which are as they were appended.
fn entries(journal: &dyn JournalStore, after: u64) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut each = |number: u64, read: JournalEntry<'_>| {
        let appended = u8::try_from(number - 1).expect("few entries");
        assert_eq!(read, entry(appended, read.body), "entry {number}");
        found.push((number, read.body.to_vec()));
        true
    };
    journal.replay(after, &mut each).expect("the journal works");
    found
}
