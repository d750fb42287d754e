//! Certificates and master keys: any bytes parse or fail, as DER inside PEM as well as bare.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearfs_format::trust::{Certificate, MasterKeys};

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for triple in line.chunks(3) {
            let bits = triple.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - triple.len()));
            for index in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize] as char;
                text.push(if index <= triple.len() { digit } else { '=' });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text.into_bytes()
}

fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::parse(bytes);
    let _ = Certificate::parse(&pem("CERTIFICATE", bytes));
    let _ = MasterKeys::parse(&[pem("PUBLIC KEY", bytes)]);
});
