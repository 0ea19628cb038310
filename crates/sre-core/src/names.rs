/// Implements `ALL`, `as_str`, `Display` and `FromStr` for an enum whose values have names.
macro_rules! names {
    ($(#[doc = $all:literal])* $type:ident { $($variant:ident: $name:literal),+ $(,)? }) => {
        impl $type {
            $(#[doc = $all])*
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name, as in JSON and settings.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.into_iter().find(|value| value.as_str() == text);
                found.ok_or_else(|| crate::InvalidName::new(text, Self::ALL.map(Self::as_str)))
            }
        }
    };
}

pub(crate) use names;
