//! Which texts `Date.prototype.toISOString` can have written.

/// The largest time value of JavaScript, in days from 1970-01-01 on either side.
const LAST_DAY: i64 = 100_000_000;

/// Whether this is a date of JavaScript in the form `toISOString` writes: `2024-02-29T23:59:59.999Z`, or with a sign and
/// six digits for years outside 0 to 9999.
pub(super) fn is_iso(text: &str) -> bool {
    milliseconds(text).is_some_and(|ms| ms.abs() <= LAST_DAY * 86_400_000)
}

fn milliseconds(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (year, rest) = match bytes.first()? {
        sign @ (b'+' | b'-') => {
            let year = number(bytes.get(1..7)?)?;
            let year = if *sign == b'-' { -year } else { year };
            // The short form is the only one for years that fit it; and there is no year -0.
            if (0..=9999).contains(&year) {
                return None;
            }
            (year, bytes.get(7..)?)
        }
        _ => (number(bytes.get(..4)?)?, bytes.get(4..)?),
    };
    let [
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
        b'.',
        f1,
        f2,
        f3,
        b'Z',
    ] = rest
    else {
        return None;
    };
    let (month, day) = (number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let (hour, minute, second) = (
        number(&[*h1, *h2])?,
        number(&[*n1, *n2])?,
        number(&[*s1, *s2])?,
    );
    let fraction = number(&[*f1, *f2, *f3])?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    valid.then(|| {
        let seconds = ((days_from_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
        seconds * 1000 + fraction
    })
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar; years counted from March so that leap days come last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_to_iso_string_writes() {
        for good in [
            "2023-11-14T22:13:20.000Z",
            "2024-02-29T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "-000001-12-31T00:00:00.000Z",
            "+275760-09-13T00:00:00.000Z",
            "-271821-04-20T00:00:00.000Z",
        ] {
            assert!(is_iso(good), "{good}");
        }
        for bad in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20Z",
            "2023-02-29T00:00:00.000Z",
            "2023-13-01T00:00:00.000Z",
            "2023-01-01T24:00:00.000Z",
            "2023-01-01T00:00:60.000Z",
            "-000000-01-01T00:00:00.000Z",
            "+002023-01-01T00:00:00.000Z",
            "+275760-09-13T00:00:00.001Z",
            "-271821-04-19T23:59:59.999Z",
            "2023-11-14T22:13:20.000+00",
            "2023-1é-14T22:13:20.000Z",
        ] {
            assert!(!is_iso(bad), "{bad}");
        }
        assert_eq!(
            milliseconds("2023-11-14T22:13:20.000Z"),
            Some(1_700_000_000_000)
        );
    }
}
