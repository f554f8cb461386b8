//! Commands about a model: `check`, `golden`, `baseline`, `diff`.

use serde_json::json;

use crate::support::{Store, library, model, wines};

#[tokio::test(flavor = "multi_thread")]
async fn check_reports_what_a_publisher_should_know() {
    let store = Store::lab().await;
    let library = library();
    let wine = store.ok(&["check", &model("wine-v1.onnx"), &library]).await;
    assert_eq!(wine["signature"]["inputs"][0]["shape"], json!([-1, 13]));
    assert_eq!(wine["operators"]["ai.onnx.ml.LinearClassifier"], 1);
    assert!(wine["opsets"]["ai.onnx.ml"].as_u64() >= Some(1));
    assert!(wine["load_ms"].as_f64() > Some(0.0) && wine["warm_run_ms"].as_f64() > Some(0.0));
    let memory = wine["memory_mb"].as_u64().unwrap();
    assert!((128..1_024).contains(&memory), "{memory}");
    let notes = wine["notes"].to_string();
    assert!(notes.contains("sequence of maps (ZipMap)"), "{notes}");

    // Indices that the model rejects: generated inputs are not valid for every model.
    let picky = store
        .ok(&["check", &model("gather-stricter.onnx"), &library])
        .await;
    assert!(picky["load_ms"].as_f64() > Some(0.0), "{picky}");
    let fixed = store
        .ok(&["check", &model("fixed-batch.onnx"), &library])
        .await;
    assert!(
        fixed["notes"]
            .to_string()
            .contains("first dimension is fixed"),
        "{fixed}"
    );
    let branches = ["check", &model("zoo/pytorch-branches.onnx"), &library];
    let branches = store.ok(&branches).await;
    assert!(
        branches["notes"].to_string().contains("control flow"),
        "{branches}"
    );

    let attention = model("zoo/pytorch-attention.onnx");
    let named = ["check", &attention, &library, "--dim", "length=3"];
    let named = store.ok(&named).await;
    assert!(named["warm_run_ms"].as_f64() > Some(0.0), "{named}");
    let unknown = ["check", &attention, &library, "--dim", "width=3"];
    let errors = store.fails(1, &unknown).await;
    assert!(
        errors.contains(
            "--dim width: the model has no free dimension of this name; it has batch, length"
        ),
        "{errors}"
    );

    for (wrong, reason) in [
        ("garbage.onnx", "cannot use"),
        ("truncated.onnx", "cannot parse"),
        ("custom-ops/tokenizer.onnx", "MODEL_CUSTOM_OPS"),
    ] {
        let errors = store.fails(3, &["check", &model(wrong), &library]).await;
        assert!(errors.contains(reason), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_the_same_from_each_format_of_data() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let json_file = wines(folder.path(), 4);
    let rows: Vec<Vec<f32>> = serde_json::from_slice(&std::fs::read(&json_file).unwrap()).unwrap();
    let heading: Vec<String> = (0..13).map(|column| format!("c{column}")).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().map(f32::to_string);
        cells.collect::<Vec<_>>().join(",")
    });
    let csv: Vec<String> = [heading.join(",")].into_iter().chain(lines).collect();
    std::fs::write(path("rows.csv"), csv.join("\n")).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 13), }\n";
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let data: Vec<u8> = rows
        .concat()
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    let npy = [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &data].concat();
    std::fs::write(path("rows.npy"), npy).unwrap();

    let wine = model("wine-v1.onnx");
    let library = library();
    let mut made = Vec::new();
    for data in [json_file, path("rows.csv"), path("rows.npy")] {
        let output = path("golden.json");
        let golden = [
            "golden", &wine, "--data", &data, "-o", &output, "--rows", "3", &library,
        ];
        assert_eq!(store.ok(&golden).await["examples"], 3);
        made.push(std::fs::read_to_string(&output).unwrap());
    }
    assert!(made[0] == made[1] && made[1] == made[2], "{made:?}");

    let bad = path("bad.csv");
    std::fs::write(&bad, "a,b\n1,2\n").unwrap();
    let errors = store
        .fails(1, &["golden", &wine, "--data", &bad, &library])
        .await;
    assert!(
        errors.contains("cannot use rows 0 to 0 of --data"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_compares_versions_and_files() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let (uri, library) = (store.uri(), library());
    let rows = wines(folder.path(), 3);
    let golden = folder
        .path()
        .join("golden.json")
        .to_str()
        .unwrap()
        .to_owned();
    let (first, second) = (model("wine-v1.onnx"), model("wine-v2.onnx"));
    store
        .ok(&["golden", &first, "--data", &rows, "-o", &golden, &library])
        .await;
    store
        .ok(&["publish", &first, &uri, "--golden", &golden, &library])
        .await;
    store.ok(&["publish", &second, &uri, &library]).await;
    let (one, two) = (format!("{uri}@1"), format!("{uri}@2"));
    let diff = store.ok(&["diff", &one, &two, &library]).await;
    assert_eq!(
        (&diff["examples"], &diff["compatible"]),
        (&json!(3), &json!(null))
    );
    assert!(
        diff["differences"]["output_probability"].as_f64() > Some(0.01),
        "{diff}"
    );
    let same = store.ok(&["diff", &one, &first, &library]).await;
    assert_eq!(same["differences"]["output_probability"], json!(0.0));
    assert_eq!(same["sha256"][0], same["sha256"][1]);
    let other = store
        .ok(&["diff", &one, &model("linear.onnx"), &library])
        .await;
    assert!(
        other["compatible"].as_str().unwrap().contains("is missing"),
        "{other}"
    );
    let errors = store
        .fails(3, &["diff", &format!("{uri}@9"), &two, &library])
        .await;
    assert!(errors.contains("it has 1, 2"), "{errors}");
}
