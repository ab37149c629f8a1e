//! Columns as struct fields, whose names and bindings are written once.

/// The columns of a table that are written and read together.
macro_rules! columns {
    ($(#[$doc:meta])* $name:ident { $($column:ident: $type:ty,)* }) => {
        $(#[$doc])*
        pub(crate) struct $name {
            $(pub(crate) $column: $type,)*
        }

        impl $name {
            pub(crate) const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),*];

            /// Binds each of [`Self::COLUMNS`], in that order.
            pub(crate) fn bind(
                self,
                query: sqlx::query::Query<'_, sqlx_sqlite::Sqlite, sqlx_sqlite::SqliteArguments>,
            ) -> sqlx::query::Query<'_, sqlx_sqlite::Sqlite, sqlx_sqlite::SqliteArguments>
            {
                query$(.bind(self.$column))*
            }
        }
    };
}

pub(super) use columns;
