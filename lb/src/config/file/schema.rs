//! The JSON schema of the configuration file, for editors. It is made from the table of keys.

use serde_json::{Map, Value, json};

use super::keys::{BACKEND, Key, Keys, Kind};

/// The dialect that most editors know.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema as JSON text, with the line feed at its end.
pub(in crate::config) fn schema(keys: &Keys) -> String {
    let mut definitions: Map<String, Value> =
        keys.0.iter().map(|key| (key.name.clone(), of_key(key))).collect();
    definitions.extend(Keys::tables().map(|table| (table_name(table), of_table(keys, table))));
    let outside = keys.0.iter().map(|key| key.name.as_str()).chain(Keys::tables());
    let properties: Map<String, Value> = outside.map(|name| (name.to_owned(), of_name(keys, name))).collect();
    let schema = json!({
        "$schema": DIALECT,
        "title": "The configuration file of lb",
        "description": "Each flag of lb serve is a key, without the dashes in front; it may also stand in the table of its group.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "definitions": definitions,
    });
    format!("{schema:#}\n")
}

fn table_name(table: &str) -> String {
    format!("[{table}]")
}

fn reference(name: &str) -> Value {
    // Brackets are no part of a URI.
    json!({"$ref": format!("#/definitions/{}", name.replace('[', "%5B").replace(']', "%5D"))})
}

/// A name outside of all tables: a key, a table, or both.
fn of_name(keys: &Keys, name: &str) -> Value {
    match (keys.find(name).is_some(), Keys::is_table(name)) {
        (true, true) => json!({"anyOf": [reference(name), reference(&table_name(name))]}),
        (_, true) => reference(&table_name(name)),
        _ => reference(name),
    }
}

fn of_table(keys: &Keys, table: &str) -> Value {
    let inside = keys.0.iter().filter(|key| key.table == table);
    let names = inside.flat_map(|key| [Some(key.name.as_str()), key.short()].map(|name| (name, key)));
    let properties: Map<String, Value> =
        names.filter_map(|(name, key)| Some((name?.to_owned(), reference(&key.name)))).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn of_key(key: &Key) -> Value {
    let one = match (key.kind, key.choices()) {
        (Kind::Switch, _) => json!({"type": "boolean"}),
        (Kind::Number, _) => json!({"type": ["number", "string"]}),
        (Kind::Text, Some(choices)) => json!({"enum": choices}),
        (Kind::Text, None) if key.name == BACKEND => json!({"anyOf": [{"type": "string"}, backend()]}),
        (Kind::Text, None) => json!({"type": "string"}),
    };
    let mut whole = match key.is_repeatable {
        true => json!({"anyOf": [one, {"type": "array", "items": one}]}),
        false => one,
    };
    whole["description"] = format!("{} ({})", key.about, key.form).into();
    if let Some(default) = &key.default {
        whole["default"] = default_value(key, default);
    }
    whole
}

fn default_value(key: &Key, default: &str) -> Value {
    match key.kind {
        Kind::Switch => json!(default == "true"),
        Kind::Number => default.parse::<i64>().map_or_else(|_| json!(default), |number| json!(number)),
        Kind::Text => json!(default),
    }
}

/// A table of `[[backend]]`.
fn backend() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "address"],
        "properties": {
            "name": {"type": "string", "description": "The name of its slot"},
            "address": {"type": "string", "description": "HOST:PORT"},
            "weight": {"type": "integer", "minimum": 0, "maximum": 100, "default": 1, "description": "Its share of the keys against the others'"},
        },
    })
}
