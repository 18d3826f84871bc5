//! Secrets come from a file or the environment, never from the configuration itself: here they are fetched.

use anyhow::{Context, Result};
use lake::files::Bucket;
use lake::hidden::Hidden;
use lake::kafka::KafkaConfig;
use lake::tables::LakeConfig;
use respond::webhook::Secret;

/// The responder's configuration with each secret in its place.
pub(crate) fn resolve(config: &respond::Config) -> Result<respond::Config> {
    let mut config = config.clone();
    for webhook in config.webhooks.iter_mut().filter(|webhook| webhook.secret.is_none()) {
        let text = read((&webhook.secret_file, &webhook.secret_env));
        let secret = text.and_then(|text| Ok(text.map(|text| text.parse::<Secret>()).transpose()?));
        // Where neither is named the configuration's own check says so.
        webhook.secret = secret.with_context(|| format!("the secret of webhook `{}`", webhook.name))?;
    }
    for system in &mut config.systems {
        let files = system.secret_files.iter().map(|(name, path)| (name, Some(path.clone()), None));
        let variables = system.secret_envs.iter().map(|(name, variable)| (name, None, Some(variable.clone())));
        for (name, file, variable) in files.chain(variables) {
            let text = read((&file, &variable));
            let text = text.with_context(|| format!("the secret `{name}` of system `{}`", system.name))?;
            system.secrets.extend(text.map(|text| (name.clone(), Hidden::new(&text))));
        }
    }
    for receiver in &mut config.receivers {
        let place = (&receiver.authorization_file, &receiver.authorization_env);
        let text = read(place).with_context(|| format!("the authorization of receiver `{}`", receiver.name))?;
        receiver.authorization = text.map(|text| Hidden::new(&text));
    }
    for drill in &mut config.drills {
        let place = (&drill.credential_file, &drill.credential_env);
        let text = read(place).with_context(|| format!("the credential of drill `{}`", drill.name))?;
        drill.credential = text.map(|text| Hidden::new(&text));
    }
    Ok(config)
}

/// Puts the password of a client of Kafka in its place.
pub(crate) fn resolve_kafka(client: &mut KafkaConfig) -> Result<()> {
    let file = client.sasl_password_file.as_ref().map(|path| path.display().to_string());
    let text = read((&file, &client.sasl_password_env)).context("the password of Kafka's user")?;
    client.sasl_password = text.map(|text| Hidden::new(&text));
    Ok(())
}

/// The bucket that the lake is in, if it is in one, with its key or what the environment says of one.
pub(crate) fn bucket(config: &LakeConfig) -> Result<Option<Bucket>> {
    let Some(url) = &config.url else { return Ok(None) };
    let place = (&config.s3.secret_access_key_file, &config.s3.secret_access_key_env);
    let secret = read(place).context("the secret of the lake's key")?;
    // The usual place of credentials for a bucket.
    let variables =
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    let bucket = Bucket::new(url, &config.s3, secret.as_deref(), variables);
    bucket.map(Some).map_err(|error| anyhow::anyhow!("the lake's bucket {url}: {error}"))
}

/// What a file or else a variable holds; nothing where neither is named.
fn read(place: (&Option<String>, &Option<String>)) -> Result<Option<String>> {
    match place {
        (Some(path), _) => std::fs::read_to_string(path).map(Some).with_context(|| format!("cannot read {path}")),
        (None, Some(name)) => environment(name).map(Some).with_context(|| format!("the environment has no {name}")),
        (None, None) => Ok(None),
    }
}

fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a secret that the configuration places in the environment")]
    std::env::var(name).ok()
}
