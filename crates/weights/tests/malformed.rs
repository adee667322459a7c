//! Every malformed file gives its own error, whose message names the thing, what was expected and what was found.

#[path = "../../../tests/hostile/safetensors.rs"]
mod hostile;

use std::collections::BTreeSet;

use lorahub_weights::{ForeignFormat, Limits, SafeTensors, WeightsError};

#[test]
fn each_malformed_file_gives_its_own_error() {
    let mut failures = Vec::new();
    let mut codes = BTreeSet::new();
    for hostile::BadFile {
        what,
        bytes,
        code,
        says,
    } in hostile::bad_files()
    {
        match SafeTensors::parse(&bytes, &Limits::ADAPTER) {
            Ok(_) => failures.push(format!("{what}: accepted")),
            Err(error) => {
                codes.insert(error.code());
                let message = error.to_string();
                if error.code() != code {
                    failures.push(format!("{what}: expected {code}, found {}: {message}", error.code()));
                }
                failures.extend(
                    says.iter()
                        .filter(|words| !message.contains(**words))
                        .map(|words| format!("{what}: `{words}` is not in: {message}")),
                );
                if message.chars().any(char::is_control) || message.len() > 500 {
                    failures.push(format!("{what}: not fit to be shown: {message:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Every fault that parsing can find has a case. `Refused` has none: nothing we know passes our checks and not the
    // library's.
    assert_eq!(codes.len(), 20, "{codes:?}");
}

#[test]
fn the_valid_file_behind_the_table_is_valid() {
    let bytes = hostile::valid();
    let file = SafeTensors::parse(&bytes, &Limits::ADAPTER).expect("valid");
    assert_eq!(file.names().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(file.shape("x"), Ok([2, 2].as_slice()));
    assert_eq!(file.f32("x"), Ok(vec![1.0, -2.0, 3.5, 0.0]));
    assert_eq!(file.f32("y"), Ok(vec![0.25, -0.125]));
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
}

#[test]
fn a_base_may_have_a_longer_header_than_an_adapter() {
    let padded = format!("{}{}", hostile::VALID_HEADER, " ".repeat(8 << 20));
    let bytes = hostile::file(&padded, &hostile::valid()[8 + hostile::VALID_HEADER.len()..]);
    let refused = SafeTensors::parse(&bytes, &Limits::ADAPTER).expect_err("above the adapter's limit");
    assert_eq!(refused.code(), "weights-header-too-long");
    assert!(SafeTensors::parse(&bytes, &Limits::BASE).is_ok());
}

#[test]
fn a_short_header_whose_length_looks_like_a_pickle_is_still_read() {
    // 0x0280 bytes of header: the file starts with 80 02.
    let padded = format!("{:<640}", hostile::VALID_HEADER);
    let bytes = hostile::file(&padded, &hostile::valid()[8 + hostile::VALID_HEADER.len()..]);
    assert_eq!(ForeignFormat::detect(&bytes), Some(ForeignFormat::Pickle));
    assert!(SafeTensors::parse(&bytes, &Limits::ADAPTER).is_ok());
}

#[test]
fn values_must_be_finite_in_every_format() {
    let cases: [(&str, &[u8], &str); 7] = [
        ("F32", &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f], "NaN"),
        ("F32", &[0, 0, 0, 0, 0, 0, 0x80, 0x7f], "inf"),
        ("F32", &[0, 0, 0, 0, 0, 0, 0x80, 0xff], "-inf"),
        ("F16", &[0, 0, 0, 0x7e], "NaN"),
        ("F16", &[0, 0, 0, 0x7c], "inf"),
        ("BF16", &[0, 0, 0xc0, 0x7f], "NaN"),
        ("BF16", &[0, 0, 0x80, 0xff], "-inf"),
    ];
    for (dtype, data, value) in cases {
        let header = format!(
            r#"{{"x":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{}]}}}}"#,
            data.len()
        );
        let bytes = hostile::file(&header, data);
        let file = SafeTensors::parse(&bytes, &Limits::ADAPTER).expect("the header is fine");
        let error = file.f32("x").expect_err(dtype);
        assert_eq!(
            error,
            WeightsError::NonFinite {
                name: "x".to_owned(),
                index: 1,
                value
            },
            "{dtype}"
        );
        let message = error.to_string();
        for words in ["`x`", value, "index 1", "finite", "another checkpoint"] {
            assert!(message.contains(words), "`{words}` is not in: {message}");
        }
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let bytes = hostile::valid();
    let file = SafeTensors::parse(&bytes, &Limits::ADAPTER).expect("valid");
    let missing = WeightsError::Missing { name: "z".to_owned() };
    assert_eq!(file.f32("z"), Err(missing.clone()));
    assert_eq!(file.shape("z"), Err(missing.clone()));
    assert_eq!(file.dtype("z"), Err(missing.clone()));
    assert!(missing.to_string().contains("`z`"));
}
