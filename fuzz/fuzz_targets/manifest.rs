//! Manifests: rejected with a short reason, or with versions that can be selected and whose files
//! are next to the manifest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_sidecar::config::Choice;
use model_sidecar::ids::ModelName;
use model_sidecar::manifest::{Manifest, RolloutPosition};

fuzz_target!(|json: &[u8]| {
    let manifest = match Manifest::parse(json) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let model = ModelName::parse("fuzz").expect("a name");
    let position = || RolloutPosition(json.len() as u64);
    let (current, _) = manifest.current();
    let newest = manifest.choose(&Choice::Newest, &model, position);
    let newest = newest.expect("the current version or its canary");
    assert!(newest.version.0 == current || manifest.canary().is_some());
    for (name, version) in manifest.versions() {
        let pinned = Choice::Version(name.as_str().to_owned());
        let chosen = manifest
            .choose(&pinned, &model, position)
            .expect("a version");
        assert_eq!(chosen.version.0, name);
        assert!(chosen.stand_ins.is_empty());
        assert!(version.size() >= version.files.len() as u64);
        assert!(version.files.contains(&version.model));
        for file in &version.files {
            for path in [version.place(file), file.laid_out()] {
                let path = path.as_str();
                let is_inside = !path.starts_with('/') && path.split('/').all(|it| it != "..");
                assert!(is_inside, "{path}");
            }
        }
    }
    for (label, _) in manifest.labels().iter() {
        let labelled = Choice::Label(label.as_str().to_owned());
        manifest
            .choose(&labelled, &model, position)
            .expect("a label");
    }
});
