// SPDX-License-Identifier: Apache-2.0
//! Text -> token ids, for C. src/format/tokenizer_library.h declares the same functions and structs;
//! both sides change together, and `ABI` with them.
//!
//! Nothing panics through the border: a panic is caught and becomes a message. What is handed out is
//! freed by the function named beside it. A tokenizer is immutable; any thread may encode with it.

use std::any::Any;
use std::ffi::{c_char, c_void, CStr, CString};
use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::Once;
use std::{ptr, slice, str};

use tokenizers::utils::truncation::TruncationParams;
use tokenizers::{EncodeInput, Encoding, PostProcessor, Tokenizer};

const ABI: u32 = 1;

/// Of this library alone; what it hands out is freed by it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The crate does not tell its own version; Cargo.toml asks for exactly this one.
const VERSION: &CStr = c"0.22.2";

/// What a tokenizer.json says beside how to cut text. -1: it does not say.
#[repr(C)]
pub struct Info {
    pad_id: i64,
    pad_type_id: i64,
    max_length: i64,
}

/// `ids` and `type_ids` have `size` numbers each and live as long as `owner`.
#[repr(C)]
pub struct Tokens {
    ids: *const u32,
    type_ids: *const u32,
    size: usize,
    owner: *mut c_void,
}

fn panic_text(cause: Box<dyn Any + Send>) -> String {
    let text = cause
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| cause.downcast_ref::<String>().cloned());
    format!("the library gave up: {}", text.unwrap_or_default())
}

/// Runs `work`; an error or panic becomes a message that `tidemill_tokenizers_free_text` frees.
unsafe fn guarded(message: *mut *mut c_char, work: impl FnOnce() -> Result<(), String>) -> bool {
    let result =
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| Err(panic_text(cause)));
    match result {
        Ok(()) => true,
        Err(text) => {
            let plain = text.replace('\0', " ");
            *message = CString::new(plain).map_or(ptr::null_mut(), CString::into_raw);
            false
        }
    }
}

unsafe fn text<'a>(data: *const c_char, size: usize) -> Result<&'a str, String> {
    if size == 0 {
        return Ok("");
    }
    let bytes = slice::from_raw_parts(data.cast::<u8>(), size);
    str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn added_tokens(tokenizer: &Tokenizer, is_pair: bool) -> usize {
    tokenizer
        .get_post_processor()
        .map_or(0, |processor| processor.added_tokens(is_pair))
}

fn info_of(tokenizer: &Tokenizer) -> Info {
    let padding = tokenizer.get_padding();
    let named = ["[PAD]", "<pad>"]
        .iter()
        .find_map(|token| tokenizer.token_to_id(token));
    Info {
        pad_id: padding.map(|p| p.pad_id).or(named).map_or(-1, i64::from),
        pad_type_id: padding.map_or(-1, |p| i64::from(p.pad_type_id)),
        max_length: tokenizer
            .get_truncation()
            .map_or(-1, |t| i64::try_from(t.max_length).unwrap_or(i64::MAX)),
    }
}

fn set_max_length(tokenizer: &mut Tokenizer, max_length: usize) -> Result<(), String> {
    let added = added_tokens(tokenizer, false);
    if max_length < added {
        return Err(format!(
            "a length of {max_length} leaves no room: {added} tokens are added to every text"
        ));
    }
    let old = tokenizer.get_truncation().cloned().unwrap_or_default();
    let params = TruncationParams {
        max_length,
        stride: 0, // of the pieces behind the cut, which nobody reads
        ..old
    };
    tokenizer
        .with_truncation(Some(params))
        .map_err(|e| e.to_string())?;
    Ok(())
}

fn open(json: &[u8], max_length: usize, info: &mut Info) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
    if max_length > 0 {
        set_max_length(&mut tokenizer, max_length)?;
    }
    *info = info_of(&tokenizer);
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn encode(tokenizer: &Tokenizer, first: &str, second: Option<&str>) -> Result<Encoding, String> {
    if let Some(truncation) = tokenizer.get_truncation() {
        let added = added_tokens(tokenizer, second.is_some());
        if truncation.max_length < added {
            return Err(format!(
                "{added} tokens are added, more than the length of {}",
                truncation.max_length
            ));
        }
    }
    let input: EncodeInput = match second {
        Some(second) => (first, second).into(),
        None => first.into(),
    };
    tokenizer
        .encode_fast(input, true)
        .map_err(|error| error.to_string())
}

/// The version of this interface.
#[no_mangle]
pub extern "C" fn tidemill_tokenizers_abi() -> u32 {
    ABI
}

/// The version of the library behind it; static.
#[no_mangle]
pub extern "C" fn tidemill_tokenizers_version() -> *const c_char {
    VERSION.as_ptr()
}

/// `json`: the bytes of a tokenizer.json. `max_length` 0: what the file says. NULL: see *message.
///
/// # Safety
/// The pointers must be valid; `json` for `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizers_open(
    json: *const c_char,
    size: usize,
    max_length: usize,
    info: *mut Info,
    message: *mut *mut c_char,
) -> *mut Tokenizer {
    static QUIET: Once = Once::new();
    // Panics are told by their message alone, not on standard error.
    QUIET.call_once(|| set_hook(Box::new(|_| {})));
    let mut made = ptr::null_mut();
    guarded(message, || {
        let bytes: &[u8] = if size == 0 {
            &[]
        } else {
            slice::from_raw_parts(json.cast(), size)
        };
        made = Box::into_raw(Box::new(open(bytes, max_length, &mut *info)?));
        Ok(())
    });
    made
}

/// # Safety
/// `tokenizer` comes from tidemill_tokenizers_open, or is NULL.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizers_close(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(tokenizer))));
    }
}

/// `second` NULL: one text, no pair. Special tokens are added as the file says. False: see *message.
///
/// # Safety
/// The texts must be valid for their sizes. *ret goes to tidemill_tokenizers_free.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizers_encode(
    tokenizer: *const Tokenizer,
    first: *const c_char,
    first_size: usize,
    second: *const c_char,
    second_size: usize,
    ret: *mut Tokens,
    message: *mut *mut c_char,
) -> bool {
    guarded(message, || {
        let first = text(first, first_size)?;
        let second = match second.is_null() {
            true => None,
            false => Some(text(second, second_size)?),
        };
        let encoding = Box::new(encode(&*tokenizer, first, second)?);
        *ret = Tokens {
            ids: encoding.get_ids().as_ptr(),
            type_ids: encoding.get_type_ids().as_ptr(),
            size: encoding.len(),
            owner: Box::into_raw(encoding).cast(),
        };
        Ok(())
    })
}

/// # Safety
/// `tokens` was filled by tidemill_tokenizers_encode, once.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizers_free(tokens: *mut Tokens) {
    let owner = (*tokens).owner.cast::<Encoding>();
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(owner))));
}

/// # Safety
/// `message` comes from one of the functions above, or is NULL.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizers_free_text(message: *mut c_char) {
    if !message.is_null() {
        drop(CString::from_raw(message));
    }
}
