//! The outermost layer of a module: its sections, found without looking inside any. Total on any bytes.

/// Eight bytes that begin every core module (a component has another version).
pub(crate) const HEADER: &[u8; 8] = b"\0asm\x01\0\0\0";

/// One section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    /// 0 for a custom section.
    pub(crate) id: u8,
    /// With its id and length.
    pub(crate) whole: &'a [u8],
    /// What is inside.
    pub(crate) content: &'a [u8],
}

/// The bytes do not divide into sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotSections;

/// Every section, in order.
pub(crate) fn sections(module: &[u8]) -> Result<Vec<Section<'_>>, NotSections> {
    let mut rest = module.strip_prefix(HEADER).ok_or(NotSections)?;
    let mut found = Vec::new();
    while let Some((&id, after_id)) = rest.split_first() {
        let (length, after_length) = leb_u32(after_id).ok_or(NotSections)?;
        let content = after_length.get(..length as usize).ok_or(NotSections)?;
        let end = rest.len() - after_length.len() + content.len();
        found.push(Section { id, whole: &rest[..end], content });
        rest = &rest[end..];
    }
    Ok(found)
}

impl<'a> Section<'a> {
    /// Name and content of a custom section.
    pub(crate) fn custom(&self) -> Option<(&'a [u8], &'a [u8])> {
        if self.id != 0 {
            return None;
        }
        let (length, rest) = leb_u32(self.content)?;
        Some((rest.get(..length as usize)?, &rest[length as usize..]))
    }
}

/// A custom section with its header.
pub(crate) fn custom_section(name: &str, content: &[u8]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(content.len() + name.len() + 5);
    push_leb_u32(&mut inner, name.len() as u32);
    inner.extend_from_slice(name.as_bytes());
    inner.extend_from_slice(content);
    let mut section = Vec::with_capacity(inner.len() + 6);
    section.push(0);
    push_leb_u32(&mut section, inner.len() as u32);
    section.extend_from_slice(&inner);
    section
}

fn leb_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, &bytes[i + 1..]));
        }
    }
    None
}

fn push_leb_u32(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_section_is_found_again() {
        let content = vec![7; 300];
        let module = [&HEADER[..], &custom_section("x", &content)].concat();
        let found = sections(&module).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].custom(), Some((&b"x"[..], &content[..])));
        assert_eq!(sections(&module[..module.len() - 1]), Err(NotSections));
        assert_eq!(sections(b"\0asm\x0d\0\x01\0"), Err(NotSections));
    }
}
