//! What a setting looks like, as data: the documentation, the suggestions and the table of all settings are made
//! from it. `record!` and `choice!` declare a type once and derive its form, its reading and its schema.

/// What a value may be.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// In words: `boolean`, `string or list of strings`.
    pub kind: String,
    /// The words it may be, where it is one of a few.
    pub values: Vec<&'static str>,
    /// The settings inside, where it may be an object (or a list of such).
    pub fields: Vec<Field>,
    /// Whether `fields` are those of a list's items.
    pub is_list: bool,
}

impl Form {
    pub(crate) fn plain(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }
}

/// One setting of an object.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its key.
    pub key: &'static str,
    /// What it means.
    pub doc: String,
    /// What holds when it is absent; empty if nothing does.
    pub default: &'static str,
    /// What it may be.
    pub form: Form,
}

/// A default as the schema has it: JSON where it is JSON.
pub(crate) fn json_default(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Declares an object of settings. Every field is optional, `= "…"` is the default as the settings page shows it,
/// `as "…"` gives a key that is not the field's name.
macro_rules! record {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])* pub $field:ident $(as $key:literal)? : $ty:ty $(= $default:literal)? ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[serde(rename = $key)])?
                $(#[schemars(extend("default" = $crate::form::json_default($default)))])?
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$ty>,
            )*
        }

        impl $crate::decode::Decode for $name {
            fn form() -> $crate::form::Form {
                $crate::form::Form {
                    kind: "object".to_owned(),
                    fields: vec![ $( $crate::form::Field {
                        key: record!(@key $field $($key)?),
                        doc: concat!($($doc, "\n"),*).trim().to_owned(),
                        default: concat!($($default)?),
                        form: <$ty as $crate::decode::Decode>::form(),
                    } ),* ],
                    ..Default::default()
                }
            }

            fn accepts(node: &$crate::tree::Node) -> bool {
                node.is_map()
            }

            fn decode(
                node: &$crate::tree::Node,
                at: &$crate::tree::At,
                context: &mut $crate::decode::Context<'_>,
            ) -> Option<Self> {
                let record = context.record(node, at, &[$( record!(@key $field $($key)?) ),*])?;
                Some(Self { $( $field: record.field(record!(@key $field $($key)?), context), )* })
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

/// Declares a setting that is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $about:literal])*
        pub enum $name:ident {
            $( $(#[doc = $doc:literal])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, schemars::JsonSchema)]
        pub enum $name {
            $( $(#[doc = $doc])* #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// The word that stands for it in a config.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::decode::Decode for $name {
            fn form() -> $crate::form::Form {
                let values = vec![$($word),*];
                let words: Vec<String> = values.iter().map(|word| format!("\"{word}\"")).collect();
                $crate::form::Form { kind: words.join(" or "), values, ..Default::default() }
            }

            fn accepts(node: &$crate::tree::Node) -> bool {
                matches!(node.value, $crate::tree::Value::Text(_))
            }

            fn decode(
                node: &$crate::tree::Node,
                at: &$crate::tree::At,
                context: &mut $crate::decode::Context<'_>,
            ) -> Option<Self> {
                match context.word(node, at, &[$($word),*])? {
                    $( $word => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {choice, record};
