//! The place of a sealed value, by which it is bound to its row and owner.

/// The place of a sealed value. It opens in this one only, so that whatever is copied to another
/// row, column, owner, kind or GitHub is of no use there.
#[derive(Clone, Copy, Debug)]
pub struct SealedPlace<'a> {
    pub table: &'a str,
    pub column: &'a str,
    pub row: &'a str,
    pub owner_kind: &'a str,
    pub owner: &'a str,
    pub kind: &'a str,
    /// The GitHub that the secret is for.
    pub host: &'a str,
}

impl SealedPlace<'_> {
    /// Returns the data that are authenticated beside the value: each part after its length, so that
    /// no two places have the same.
    pub(super) fn associated_data(&self) -> Vec<u8> {
        let Self {
            table,
            column,
            row,
            owner_kind,
            owner,
            kind,
            host,
        } = self;
        let mut data = Vec::new();
        for part in [table, column, row, owner_kind, owner, kind, host] {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}
