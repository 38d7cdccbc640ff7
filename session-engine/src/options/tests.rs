use super::*;

/// NIST SP 800-63B-4, 2.1.3, 2.2.3 and 2.3.3: overall and inactivity timeout.
#[test]
fn each_level_has_its_timeouts() {
    const HOUR: u64 = 3600;
    for (level, overall, inactivity) in [
        (Options::aal1(), 30 * 24 * HOUR, 14 * 24 * HOUR),
        (Options::aal2(), 24 * HOUR, HOUR),
        (Options::aal3(), 12 * HOUR, HOUR / 4),
    ] {
        assert_eq!(level.timeouts.absolute, Some(Duration::from_secs(overall)));
        assert_eq!(level.timeouts.idle, Some(Duration::from_secs(inactivity)));
        assert_eq!(level.when_stale, WhenStale::FailClosed);
        let renewed = level.timeouts != Timeouts::aal1();
        assert_eq!(level.renew_after, renewed.then_some(Duration::from_secs(600)));
        assert_eq!(level.validate(), Ok(()));
    }
    assert_eq!(Options::default(), Options::aal1());
}

#[test]
fn options_read_as_data_and_bad_ones_are_named() {
    let text = r#"{"write_back":{"every_hits":20},"when_stale":{"serve_stale":60},"timeouts":{"idle":null}}"#;
    let options: Options = serde_json::from_str(text).unwrap();
    assert_eq!(options.write_back.every_hits, 20);
    assert_eq!(options.write_back.max_delay, Duration::from_secs(30));
    assert_eq!(options.when_stale, WhenStale::ServeStale(Duration::from_secs(60)));
    assert_eq!(options.timeouts.idle, None);
    assert!(options.validate().is_ok());
    assert!(serde_json::from_str::<Options>(r#"{"propagation_bound":-1}"#).is_err());
    let zero = Options { propagation_bound: Duration::ZERO, ..Options::default() };
    assert_eq!(zero.validate().unwrap_err().field, "propagation_bound");
    let never = Timeouts::default().with_idle(Duration::ZERO);
    let never = Options::default().with_timeouts(never);
    assert_eq!(never.validate().unwrap_err().field, "timeouts.idle");
    let ages = Options::default().with_store_timeout(Duration::from_secs(10_u64.pow(19)));
    assert_eq!(ages.validate().unwrap_err().field, "store_timeout");
}
