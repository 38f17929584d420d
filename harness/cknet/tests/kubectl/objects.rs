//! Looking at the cluster and changing objects: what kubectl prints, word for word where nothing in it changes.

use libtest_mimic::Trial;
use serde_json::Value;

use super::cluster::shared;
use super::program::{eventually, table};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("objects::the_version_is_told", the_version_is_told),
        trial("objects::the_kinds_are_listed", the_kinds_are_listed),
        trial("objects::nodes_are_listed", nodes_are_listed),
        trial("objects::a_node_is_described", a_node_is_described),
        trial("objects::objects_are_got_in_every_form", objects_are_got_in_every_form),
        trial("objects::pods_are_watched", pods_are_watched),
        trial("objects::manifests_are_applied", manifests_are_applied),
        trial("objects::managers_conflict", managers_conflict),
        trial("objects::objects_are_patched", objects_are_patched),
        trial("objects::labels_and_annotations_come_and_go", labels_and_annotations_come_and_go),
        trial("objects::bad_manifests_are_refused", bad_manifests_are_refused),
        trial("objects::what_is_not_there_is_named", what_is_not_there_is_named),
        trial("objects::a_namespace_takes_everything_with_it", a_namespace_takes_everything_with_it),
    ]
}

fn the_version_is_told() {
    let told: Value = serde_json::from_str(&shared().kubectl("version -o json")).unwrap();
    assert_eq!((&told["serverVersion"]["major"], &told["serverVersion"]["minor"]), (&"1".into(), &"33".into()));
    assert!(shared().kubectl("version").ends_with("\nServer Version: v1.33.13\n"));
    assert_eq!(shared().kubectl("get --raw /readyz"), "ok");
}

fn the_kinds_are_listed() {
    let text = shared().kubectl("api-resources");
    let rows = table(&text);
    assert_eq!(rows[0], ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]);
    for expected in [
        ["pods", "po", "v1", "true", "Pod"],
        ["nodes", "no", "v1", "false", "Node"],
        ["services", "svc", "v1", "true", "Service"],
        ["deployments", "deploy", "apps/v1", "true", "Deployment"],
        ["daemonsets", "ds", "apps/v1", "true", "DaemonSet"],
        ["endpointslices", "", "discovery.k8s.io/v1", "true", "EndpointSlice"],
        ["networkpolicies", "netpol", "networking.k8s.io/v1", "true", "NetworkPolicy"],
        ["ippools", "", "crd.projectcalico.org/v1", "false", "IPPool"],
    ] {
        assert!(rows.iter().any(|row| row == &expected), "no line {expected:?} in:\n{text}");
    }
    assert_eq!(shared().kubectl("api-resources --namespaced=false --api-group='' -o name"), "namespaces\nnodes\n");
}

fn nodes_are_listed() {
    let text = shared().kubectl("get nodes -o wide");
    let rows: Vec<_> =
        table(&text).into_iter().map(|row| [row[0], row[1], row[2], row[4], row[5], row[6], row[9]]).collect();
    assert_eq!(
        rows,
        [
            ["NAME", "STATUS", "ROLES", "VERSION", "INTERNAL-IP", "EXTERNAL-IP", "CONTAINER-RUNTIME"],
            ["cp1", "Ready", "control-plane", "v1.33.13", "192.168.60.11", "<none>", rows[1][6]],
            ["w1", "Ready", "worker", "v1.33.13", "192.168.60.12", "<none>", rows[1][6]],
            ["w2", "Ready", "worker", "v1.33.13", "192.168.60.13", "<none>", rows[1][6]],
        ]
    );
    assert!(rows[1][6].starts_with("cknet://"), "{text}");
    let conditions = shared()
        .kubectl("get node w1 -o 'jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}{\"\\n\"}{end}'");
    for line in ["Ready=True KubeletReady", "NetworkUnavailable=False CalicoIsUp"] {
        assert!(conditions.lines().any(|one| one == line), "{conditions}");
    }
}

fn a_node_is_described() {
    let described = shared().kubectl("describe node w1");
    for expected in [
        "Name:               w1\n",
        "Roles:              worker\n",
        "projectcalico.org/IPv4Address: 192.168.60.12/24\n",
        "Taints:             <none>\nUnschedulable:      false\n",
        "  InternalIP:  192.168.60.12\n  Hostname:    w1\n",
        "KubeletReady                 kubelet is posting ready status\n",
        "CalicoIsUp                   Calico is running on this node\n",
    ] {
        assert!(described.contains(expected), "no `{expected}` in:\n{described}");
    }
    assert!(described.contains("  kube-system                 calico-node-"), "{described}");
}

fn objects_are_got_in_every_form() {
    let space = shared().space("forms");
    space.pods(&[("one", "one", "w1", &["8080/tcp"]), ("two", "two", "w2", &[])]);
    let (first, second) = (space.address("one"), space.address("two"));
    let text = space.ok("get pods -o wide");
    let rows = table(&text);
    assert_eq!(
        rows[0],
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    );
    for (row, expected) in rows[1..].iter().zip([("one", first.as_str(), "w1"), ("two", &second, "w2")]) {
        assert_eq!((row[0], row[5], row[6]), expected);
        assert_eq!((row[1], row[2], row[3]), ("1/1", "Running", "0"));
        assert_eq!((row[7], row[8]), ("<none>", "<none>"));
    }
    assert_eq!(rows.len(), 3, "{text}");
    assert_eq!(space.ok("get pods -l app=two -o name"), "pod/two\n");
    assert_eq!(space.ok("get pods -l 'app in (one,three)' -o name"), "pod/one\n");
    assert_eq!(space.ok("get pods --field-selector spec.nodeName=w2 -o name"), "pod/two\n");
    let everywhere = shared().kubectl("get pods -A --no-headers");
    assert!(everywhere.lines().any(|line| line.starts_with("forms ") && line.contains(" one ")), "{everywhere}");
    assert!(
        everywhere.lines().any(|line| line.starts_with("kube-system ") && line.contains(" coredns-")),
        "{everywhere}"
    );

    let pod: Value = serde_json::from_str(&space.ok("get pod one -o json")).unwrap();
    assert_eq!((&pod["apiVersion"], &pod["kind"]), (&"v1".into(), &"Pod".into()));
    assert_eq!(pod["status"]["podIP"], first.as_str());
    assert_eq!(pod["status"]["hostIP"], "192.168.60.12");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    let yaml = space.ok("get pod one -o yaml");
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"), "{yaml}");
    assert!(yaml.contains("\n    image: ghcr.io/cknet/cknet-probe:v1\n"), "{yaml}");
    let columns =
        space.ok("get pods -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName --sort-by=.spec.nodeName");
    assert_eq!(table(&columns), [["NAME", "NODE"], ["one", "w1"], ["two", "w2"]]);

    let described = space.ok("describe pod one");
    for expected in [
        "Name:             one\nNamespace:        forms\n",
        "Node:             w1/192.168.60.12\n",
        "Labels:           app=one\n",
        "Status:           Running\n",
        &format!("IP:               {first}\nIPs:\n  IP:  {first}\n"),
        "    Image:         ghcr.io/cknet/cknet-probe:v1\n",
        "    Args:\n      --listen\n      8080/tcp\n    State:          Running\n",
        "    Ready:          True\n    Restart Count:  0\n",
    ] {
        assert!(described.contains(expected), "no `{expected}` in:\n{described}");
    }
}

fn pods_are_watched() {
    let space = shared().space("watched");
    // The watch is known to be there by what it says of a pod that was there before.
    space.pods(&[("before", "before", "w1", &[])]);
    let mut watch = space.start("get pods -w --output-watch-events");
    let seen = watch.until(|line| line.contains("before"));
    let words: Vec<Vec<&str>> = seen.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["EVENT", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(words[1][..4], ["ADDED", "before", "1/1", "Running"]);
    space.pods(&[("one", "one", "w1", &[])]);
    let seen = watch.until(|line| line.contains("Running"));
    let words: Vec<Vec<&str>> = seen.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][..4], ["ADDED", "one", "0/1", "Pending"]);
    assert!(words[1..].iter().all(|words| words[..2] == ["MODIFIED", "one"]), "{seen:#?}");
    space.ok("delete pod one");
    let seen = watch.until(|line| line.starts_with("DELETED"));
    assert!(seen.iter().all(|line| line.starts_with("MODIFIED ") || line.starts_with("DELETED ")), "{seen:#?}");
}

const SETTINGS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {colour: blue}}
data: {a: '1', b: '2'}
";

fn manifests_are_applied() {
    let space = shared().space("applied");
    assert_eq!(space.ok_with("apply -f -", SETTINGS), "configmap/settings created\n");
    assert_eq!(space.ok_with("apply -f -", SETTINGS), "configmap/settings unchanged\n");
    let changed = SETTINGS.replace(", b: '2'", ", c: '3'");
    let diff = space.run_with("diff -f -", &changed);
    assert_eq!(diff.code, 1, "{}", diff.err);
    let lines = |sign: &str| -> Vec<String> {
        let lines = diff.out.lines().filter(|line| line.starts_with(sign) && !line.starts_with(&sign.repeat(3)));
        lines.map(|line| line[1..].trim().to_owned()).collect()
    };
    assert_eq!((lines("-"), lines("+")), (vec!["b: \"2\"".to_owned()], vec!["c: \"3\"".to_owned()]), "{}", diff.out);
    assert_eq!(space.ok_with("apply -f -", &changed), "configmap/settings configured\n");
    assert_eq!(space.field("cm settings", ".data"), r#"{"a":"1","c":"3"}"#);
    assert_eq!(
        space.ok_with("apply -f - --dry-run=server", &SETTINGS.replace("name: settings", "name: other")),
        "configmap/other created (server dry run)\n"
    );
    assert_eq!(space.fails("get cm other", ""), "Error from server (NotFound): configmaps \"other\" not found\n");
    assert_eq!(
        space.ok_with("apply --server-side -f -", &SETTINGS.replace("name: settings", "name: served")),
        "configmap/served serverside-applied\n"
    );
    let fields = space
        .ok("get cm served -o 'jsonpath={.metadata.managedFields[0].manager} {.metadata.managedFields[0].operation}'");
    assert_eq!(fields, "kubectl Apply");
    assert_eq!(
        space.fails("create -f -", SETTINGS),
        "Error from server (AlreadyExists): error when creating \"STDIN\": configmaps \"settings\" already exists\n"
    );
}

fn managers_conflict() {
    let space = shared().space("managers");
    let one = "apply --server-side --field-manager=one -f -";
    let two = "apply --server-side --field-manager=two -f -";
    space.ok_with(one, SETTINGS);
    let complaint = space.fails(two, &SETTINGS.replace("a: '1'", "a: '9'"));
    assert!(
        complaint.starts_with("error: Apply failed with 1 conflict: conflict with \"one\": .data.a\n"),
        "{complaint}"
    );
    space.ok("patch cm settings --field-manager=three --type merge -p '{\"data\":{\"b\":\"7\"}}'");
    let complaint = space.fails(two, &SETTINGS.replace("{a: '1', b: '2'}", "{b: '8'}"));
    assert!(complaint.contains("conflict with \"three\" using v1: .data.b\n"), "{complaint}");
    space.ok_with(&format!("{one} --force-conflicts"), SETTINGS);
    assert!(complaint.contains("--force-conflicts"), "{complaint}");
    assert_eq!(space.field("cm settings", ".data.a"), "1", "a refused apply changes nothing");
    let shares = SETTINGS.replace(", b: '2'", "");
    assert_eq!(space.ok_with(two, &shares), "configmap/settings serverside-applied\n", "the same value is no conflict");
    space.ok_with(&format!("{two} --force-conflicts"), &shares.replace("a: '1'", "a: '9'"));
    assert_eq!(space.field("cm settings", ".data"), r#"{"a":"9","b":"2"}"#);
    // What nobody else owns goes with the last who stops asking for it.
    space.ok_with(one, "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}");
    assert_eq!(space.field("cm settings", ".data"), r#"{"a":"9"}"#);
}

fn objects_are_patched() {
    let space = shared().space("patched");
    space.ok_with("apply -f -", SETTINGS);
    let patched = "configmap/settings patched\n";
    assert_eq!(space.ok("patch cm settings --type merge -p '{\"data\":{\"a\":\"5\",\"b\":null}}'"), patched);
    assert_eq!(space.field("cm settings", ".data"), r#"{"a":"5"}"#);
    let json = r#"[{"op":"test","path":"/data/a","value":"5"},{"op":"add","path":"/data/z","value":"6"}]"#;
    assert_eq!(space.ok(&format!("patch cm settings --type json -p '{json}'")), patched);
    assert_eq!(space.field("cm settings", ".data"), r#"{"a":"5","z":"6"}"#);
    let complaint = space.fails(&format!("patch cm settings --type json -p '{}'", json.replace("\"5\"", "\"7\"")), "");
    assert!(complaint.contains("test"), "{complaint}");

    space.ok_with("apply -f -", &super::cluster::deployment("web", 0));
    // Lists of containers are merged by name.
    let second = r#"{"spec":{"template":{"spec":{"containers":[{"name":"second","image":"pause"}]}}}}"#;
    assert_eq!(space.ok(&format!("patch deploy web -p '{second}'")), "deployment.apps/web patched\n");
    assert_eq!(space.field("deploy web", ".spec.template.spec.containers[*].name"), "probe second");
    let gone = r#"{"spec":{"template":{"spec":{"containers":[{"name":"second","$patch":"delete"}]}}}}"#;
    space.ok(&format!("patch deploy web -p '{gone}'"));
    assert_eq!(space.field("deploy web", ".spec.template.spec.containers[*].name"), "probe");
    assert_eq!(space.ok(&format!("patch deploy web -p '{gone}'")), "deployment.apps/web patched (no change)\n");
}

fn labels_and_annotations_come_and_go() {
    let space = shared().space("labelled");
    space.ok_with("apply -f -", SETTINGS);
    assert_eq!(space.ok("label cm settings size=big"), "configmap/settings labeled\n");
    assert_eq!(space.ok("get cm -l size=big,colour=blue -o name"), "configmap/settings\n");
    assert_eq!(
        space.fails("label cm settings size=small", ""),
        "error: 'size' already has a value (big), and --overwrite is false\n"
    );
    space.ok("label cm settings size=small --overwrite");
    assert_eq!(space.ok("get cm -l size!=big,size -o name"), "configmap/settings\n");
    assert_eq!(space.ok("label cm settings size-"), "configmap/settings unlabeled\n");
    assert_eq!(space.field("cm settings", ".metadata.labels"), r#"{"colour":"blue"}"#);
    assert_eq!(space.ok("annotate cm settings note='hello there'"), "configmap/settings annotated\n");
    assert_eq!(space.field("cm settings", ".metadata.annotations.note"), "hello there");
    let text = space.ok("get cm settings -L colour --no-headers");
    assert_eq!(text.split_whitespace().last(), Some("blue"));
    assert!(space.fails("label cm settings 'a b=c'", "").contains("a b"), "a key with a blank is refused");
}

fn bad_manifests_are_refused() {
    let space = shared().space("refused");
    let misspelt = SETTINGS.replace("\ndata:", "\ndat:");
    let complaint = space.fails("apply -f -", &misspelt);
    assert_eq!(
        complaint,
        "Error from server (BadRequest): error when creating \"STDIN\": ConfigMap in version \"v1\" cannot be handled as a \
         ConfigMap: strict decoding error: unknown field \"dat\"\n"
    );
    let unnamed = space.fails("apply -f -", &SETTINGS.replace("name: settings", "name: Not_A_Name"));
    assert!(unnamed.starts_with("The ConfigMap \"Not_A_Name\" is invalid: metadata.name: Invalid value: \"Not_A_Name\": a lowercase RFC 1123 subdomain"), "{unnamed}");
    let foreign = space.fails("apply -f -", "{apiVersion: batch/v1, kind: Job, metadata: {name: a}}");
    assert!(foreign.contains("no matches for kind \"Job\" in version \"batch/v1\""), "{foreign}");
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, \
                  spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.168.0.0/16]}}]}]}}";
    let outside = space.fails("apply -f -", policy);
    assert!(
        outside.contains("spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"192.168.0.0/16\""),
        "{outside}"
    );
    let selector = super::cluster::deployment("web", 1).replacen(
        "\"matchLabels\":{\"app\":\"web\"}",
        "\"matchLabels\":{\"app\":\"other\"}",
        1,
    );
    let mismatch = space.fails("apply -f -", &selector);
    assert!(
        mismatch.contains("spec.template.metadata.labels: Invalid value: ")
            && mismatch.contains("`selector` does not match template `labels`"),
        "{mismatch}"
    );
}

fn what_is_not_there_is_named() {
    let space = shared().space("nothing");
    assert_eq!(space.fails("get pod nope", ""), "Error from server (NotFound): pods \"nope\" not found\n");
    assert_eq!(space.fails("get nopes", ""), "error: the server doesn't have a resource type \"nopes\"\n");
    let empty = space.run("get pods");
    assert_eq!(
        (empty.code, empty.out.as_str(), empty.err.as_str()),
        (0, "", "No resources found in nothing namespace.\n")
    );
    let nowhere = shared().kubectl_with("-n nowhere create configmap a", "");
    assert_eq!(
        (nowhere.code, nowhere.err.as_str()),
        (1, "error: failed to create configmap: namespaces \"nowhere\" not found\n")
    );
    let nowhere = shared().kubectl_with("-n nowhere apply -f -", SETTINGS);
    assert_eq!(
        (nowhere.code, nowhere.err.as_str()),
        (1, "Error from server (NotFound): error when creating \"STDIN\": namespaces \"nowhere\" not found\n")
    );
}

fn a_namespace_takes_everything_with_it() {
    let space = shared().space("fleeting");
    space.pods(&[("one", "one", "w1", &["8080/tcp"])]);
    space.ok("expose pod one --port=80 --target-port=8080");
    let said = shared().kubectl("delete namespace fleeting");
    assert_eq!(said, "namespace \"fleeting\" deleted\n", "kubectl waits until it is gone");
    assert_eq!(
        shared().kubectl_with("get namespace fleeting", "").err,
        "Error from server (NotFound): namespaces \"fleeting\" not found\n"
    );
    eventually("no pod is left", super::cluster::SOON, || match space.run("get pods,services,endpoints -o name").out {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}
