//! The keys of a spec, once: the parser refuses what is not listed here, and the JSON Schema is made from it.

/// A table of the spec: the keys it may have.
#[derive(Debug)]
pub(crate) struct Table {
    /// What people call it: "a step", "`[project]`".
    pub(crate) what: &'static str,
    /// How it is written: what to do where something else stands.
    pub(crate) example: &'static str,
    /// Its keys, in the order in which they are best read.
    pub(crate) keys: &'static [Key],
}

/// A key that a table may have.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// What it is for: shown by editors.
    pub(crate) help: &'static str,
}

/// What a value may look like. What a shape cannot say (names that must exist, ranges) is checked by the reader.
#[derive(Debug)]
pub(crate) enum Shape {
    Text,
    Bool,
    /// An integer of at least this.
    Count(u32),
    /// An integer or a float.
    Number,
    /// Any TOML value.
    Any,
    /// A string, number or boolean.
    Scalar,
    /// One of these texts.
    Choice(&'static [&'static str]),
    List(&'static Shape),
    OneOf(&'static [Shape]),
    Table(&'static Table),
    /// A table of names that the user chooses.
    Map(&'static Shape),
    /// Designed, but not built yet.
    NotYet,
}

impl Table {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, shape: Shape, help: &'static str) -> Key {
    Key { name, shape, help }
}

const TEXTS: Shape = Shape::List(&Shape::Text);
const TEXT_MAP: Shape = Shape::Map(&Shape::Text);
const TOLERATIONS: Shape = Shape::List(&Shape::Map(&Shape::Any));
const NOT_YET: &str = "";

/// The file itself.
pub(crate) static FILE: Table = Table {
    what: "the file",
    example: "",
    keys: &[
        key("project", Shape::Table(&PROJECT), "The project: its name, and what a bare `mlctl run` makes."),
        key(
            "params",
            Shape::Map(&Shape::OneOf(&[Shape::Scalar, Shape::List(&Shape::Any), Shape::Table(&PARAM)])),
            "Params: `name = default`, or a table with a type.",
        ),
        key("environments", Shape::Map(&Shape::Table(&ENVIRONMENT)), "Where steps run."),
        key(
            "defaults",
            Shape::Table(&DEFAULTS),
            "What every step has unless it says otherwise: tables merge, arrays replace.",
        ),
        key("steps", Shape::Map(&Shape::Table(&STEP)), "The steps."),
        key("contexts", Shape::Map(&Shape::Table(&CONTEXT)), "Where the workflow runs: engines and their settings."),
        key("schedules", Shape::NotYet, NOT_YET),
        key("blocks", Shape::NotYet, NOT_YET),
    ],
};

/// A file with contexts only.
pub(crate) static CONTEXTS_FILE: Table = Table {
    what: "this file",
    example: "",
    keys: &[key(
        "contexts",
        Shape::Map(&Shape::Table(&CONTEXT)),
        "Where the workflow runs: engines and their settings.",
    )],
};

pub(crate) static PROJECT: Table = Table {
    what: "`[project]`",
    example: "write `[project]` and below it `name = \"...\"`",
    keys: &[
        key("name", Shape::Text, "The project's name."),
        key("requires-mlctl", Shape::Text, "The versions of mlctl that understand this file, as `>=0.1`."),
        key("default", TEXTS, "What a bare `mlctl run` makes, with all it needs; absent: every step."),
        BASE_IMAGES_KEY,
    ],
};

const BASE_IMAGES_KEY: Key =
    key("base-images", Shape::Table(&BASE_IMAGES), "The images that steps run in where they name no image.");

pub(crate) static BASE_IMAGES: Table = Table {
    what: "`base-images`",
    example: "write { python = \"python:{{ python }}-slim\" }",
    keys: &[
        key("python", Shape::Text, "For environments with a Python; `{{ python }}` is its version."),
        key("plain", Shape::Text, "For environments without one, and for steps without an environment."),
    ],
};

pub(crate) static PARAM: Table = Table {
    what: "a param",
    example: "",
    keys: &[
        key("type", Shape::Choice(PARAM_TYPES), "Its type; absent: that of the default."),
        key("default", Shape::Any, "The value when none is given; absent: it must be given."),
        key("min", Shape::Number, "The smallest number allowed."),
        key("max", Shape::Number, "The largest number allowed."),
        key("choices", Shape::List(&Shape::Any), "The values allowed."),
        key("help", Shape::Text, "What it is for."),
    ],
};

pub(crate) static ENVIRONMENT: Table = Table {
    what: "an environment",
    example: "write `[environments.default]` and below it `python = \"3.12\"`",
    keys: &[
        key("python", Shape::Text, "The version of Python, as `3.12`."),
        key("requirements", Shape::Text, "A requirements file of the project; `-r` and `-c` in it are followed."),
        key("packages", TEXTS, "Python packages, as `scikit-learn==1.7.0`."),
        key("system-packages", TEXTS, "Debian packages, as `libgomp1`."),
        key("image", Shape::Text, "A container image, as `ghcr.io/acme/train:1.4`."),
        key("build", Shape::Table(&BUILD), "A container image, built from a Dockerfile."),
        key("portable", Shape::Bool, "Results hold on every operating system and architecture."),
    ],
};

pub(crate) static BUILD: Table = Table {
    what: "`build`",
    example: "write { dockerfile = \"docker/Dockerfile\" }",
    keys: &[
        key("dockerfile", Shape::Text, "The Dockerfile, relative to the project; absent: `Dockerfile` in `dir`."),
        key("dir", Shape::Text, "The build context, relative to the project; absent: the Dockerfile's directory."),
        key("target", Shape::Text, "The stage to build."),
        key("args", TEXT_MAP, "Build arguments."),
        key("secrets", TEXTS, "Names of build secrets; the context says where from."),
        key("ssh", Shape::Bool, "`true`: `RUN --mount=type=ssh` reaches your SSH agent."),
    ],
};

const ENV: Key = key("env", TEXT_MAP, "Environment variables; `{{ references }}` are replaced.");
const ENVIRONMENT_NAME: Key =
    key("environment", Shape::Text, "The environment it runs in; absent: `default`, if there is one.");
const NEEDS: Key = key("needs", TEXTS, "Steps that must be done before, whose outputs it does not use.");
const SHELL: Key = key("shell", Shape::Choice(SHELLS), "The shell of `script`.");
const SOURCES: Key = key("sources", TEXTS, "Globs of the project's files that it sees; absent: all.");
const SECRETS: Key =
    key("secrets", TEXTS, "Secrets it receives as environment variables; the context says where from.");
const SETTINGS: Key =
    key("settings", TEXTS, "Settings it receives as environment variables; the context has the values.");
const CACHE: Key = key("cache", Shape::Bool, "`false`: never reuse a result.");
const CACHES: Key = key("caches", TEXTS, "Directories that survive runs, as `MLCTL_CACHE_NAME`.");
const CHECKPOINT: Key = key("checkpoint", Shape::Bool, "A directory that survives attempts, as `MLCTL_CHECKPOINT`.");
const ALLOW_FAILURE: Key = key("allow-failure", Shape::Bool, "The run succeeds even if this fails.");
const FINALLY: Key = key("finally", Shape::Bool, "Runs after all others, whatever became of them.");
const RESOURCES_KEY: Key = key("resources", Shape::Table(&RESOURCES), "What it asks for.");
const RETRY_KEY: Key = key("retry", Shape::Table(&RETRY), "Extra attempts after a failure.");
const TIMEOUT: Key = key("timeout", Shape::Text, "How long one attempt may take, as `30m` or `1h30m`.");

/// `[defaults]`: what a step has but for what only one step can mean.
pub(crate) static DEFAULTS: Table = Table {
    what: "`[defaults]`",
    example: "write `[defaults]` and below it what steps have",
    keys: &[
        ENV,
        ENVIRONMENT_NAME,
        NEEDS,
        SHELL,
        SOURCES,
        SECRETS,
        SETTINGS,
        CACHE,
        CACHES,
        CHECKPOINT,
        ALLOW_FAILURE,
        FINALLY,
        RESOURCES_KEY,
        RETRY_KEY,
        TIMEOUT,
    ],
};

pub(crate) static STEP: Table = Table {
    what: "a step",
    example: "write `[steps.NAME]` and below it `command = [\"program\"]`",
    keys: &[
        key("command", TEXTS, "What to run: a program and its arguments, no shell; `{{ references }}` are replaced."),
        key("script", Shape::Text, "What to run with a shell; never edited: it reads `$MLCTL_INPUT_X` and the like."),
        SHELL,
        key("inputs", Shape::Map(&INPUT), "What it reads: `\"step.output\"`, files of the project, downloads."),
        key("outputs", Shape::Map(&Shape::Table(&OUTPUT)), "What it makes."),
        key(
            "params",
            TEXTS,
            "Params that a script reads as `MLCTL_PARAM_X`; those named in `command` and `env` need no mention.",
        ),
        key("matrix", MATRIX, "One instance for each combination of values."),
        key("when", Shape::Text, "Runs only if this is true, as `select.accuracy >= 0.9 and params.model == 'gbt'`."),
        ENV,
        ENVIRONMENT_NAME,
        NEEDS,
        SOURCES,
        SECRETS,
        SETTINGS,
        CACHE,
        CACHES,
        CHECKPOINT,
        ALLOW_FAILURE,
        FINALLY,
        RESOURCES_KEY,
        RETRY_KEY,
        TIMEOUT,
        key("distributed", Shape::NotYet, NOT_YET),
        key("uses", Shape::NotYet, NOT_YET),
        key("notebook", Shape::NotYet, NOT_YET),
        key("services", Shape::NotYet, NOT_YET),
    ],
};

const INPUT: Shape = Shape::OneOf(&[Shape::Text, TEXTS, Shape::Table(&INPUT_TABLE)]);

const MATRIX: Shape = Shape::OneOf(&[
    Shape::Text,
    Shape::Map(&Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Scalar)])),
    Shape::List(&Shape::Map(&Shape::OneOf(&[Shape::Scalar, Shape::List(&Shape::Scalar)]))),
]);

pub(crate) static INPUT_TABLE: Table = Table {
    what: "an input",
    example: "",
    keys: &[
        key(
            "from",
            Shape::OneOf(&[Shape::Text, TEXTS]),
            "An output, as `step.output`, `step[*].output`; several are gathered.",
        ),
        key("first", TEXTS, "Outputs: the first that was produced."),
        key("path", Shape::Text, "A file or directory of the project."),
        key("url", Shape::Text, "A download."),
        key("sha256", Shape::Text, "The SHA-256 that the download must have."),
        key("at", Shape::Text, "Where it is placed besides, relative to the working directory."),
        key("optional", Shape::Bool, "It may be missing: then its variable is not set."),
        key("model", Shape::NotYet, NOT_YET),
    ],
};

pub(crate) static OUTPUT: Table = Table {
    what: "an output",
    example: "write {}, or { at = \"path\" } for where the program leaves it",
    keys: &[
        key(
            "at",
            Shape::Text,
            "Where the program leaves it, relative to its working directory; absent: where `$MLCTL_OUTPUT_X` says.",
        ),
        key("kind", Shape::Choice(OUTPUT_KINDS), "What it is used for besides being a file."),
        key("type", Shape::Choice(OUTPUT_TYPES), "It is a small value of this type: usable in `when` and commands."),
        key(
            "from",
            Shape::Text,
            "The value stands in another output of the step, a JSON file: `metrics.test.accuracy`.",
        ),
        key(
            "export",
            Shape::Text,
            "A file or directory is also copied here, relative to the project, when the run succeeds.",
        ),
    ],
};

pub(crate) static RESOURCES: Table = Table {
    what: "`resources`",
    example: "write { cpu = 2, memory = \"4Gi\" }",
    keys: &[
        key("cpu", Shape::Number, "CPUs, as `2` or `0.5`."),
        key("memory", Shape::Text, "Memory, as `4Gi`."),
        key("gpu", Shape::Count(0), "GPUs."),
        key("disk", Shape::Text, "Disk, as `20Gi`."),
        key("shm", Shape::Text, "Size of `/dev/shm`; absent: the memory."),
    ],
};

pub(crate) static RETRY: Table = Table {
    what: "`retry`",
    example: "write { limit = 2, backoff = \"10s\" }",
    keys: &[
        key("limit", Shape::Count(0), "How many extra attempts."),
        key("backoff", Shape::Text, "The wait before the first, as `10s`; it doubles with each."),
    ],
};

pub(crate) static CONTEXT: Table = Table {
    what: "a context",
    example: "write `[contexts.NAME]` and below it `engine = \"process\"`",
    keys: &[
        key("engine", Shape::Choice(ENGINES), "What runs the steps."),
        key("kube-context", Shape::Text, "The context of the kubeconfig."),
        key("namespace", Shape::Text, "The Kubernetes namespace."),
        key("registry", Shape::Text, "Where images are pushed."),
        key("images", Shape::Choice(IMAGES), "How images get to the nodes."),
        key("store", Shape::Table(&STORE), "The object store that steps pass their outputs through."),
        key("service-account", Shape::Text, "The Kubernetes service account of the pods."),
        key("image-pull-secrets", TEXTS, "Kubernetes Secrets to pull images with."),
        key("pods", Shape::Count(1), "How many pods of one fan-out at a time."),
        key(
            "workers",
            Shape::Bool,
            "Whether the pods of a fan-out take turns at its instances; `false`: a pod for each instance.",
        ),
        key("chains", Shape::Bool, "Whether a linear chain of steps is one pod; `false`: a pod for each step."),
        key("parallelism", Shape::Count(1), "How many instances at a time."),
        key("pod-security", Shape::Choice(POD_SECURITY), "The Pod Security Standard that the pods keep."),
        key("ca", Shape::Text, "A PEM file with a company's certificate authorities."),
        key("settings", TEXT_MAP, "Values of the settings that steps name."),
        key("secrets", Shape::Map(&Shape::Table(&SECRET)), "Where the secrets that steps name come from."),
        key("labels", TEXT_MAP, "Labels of the pods."),
        key("annotations", TEXT_MAP, "Annotations of the pods."),
        key("node-selector", TEXT_MAP, "Labels that the nodes must have."),
        key("tolerations", TOLERATIONS, "Taints that every step tolerates, as Kubernetes writes them."),
        BASE_IMAGES_KEY,
        key("steps", Shape::Map(&Shape::Table(&PLACEMENT)), "Placement and size of single steps."),
    ],
};

pub(crate) static STORE: Table = Table {
    what: "`store`",
    example: "write { url = \"s3://bucket/prefix\" }",
    keys: &[
        key("url", Shape::Text, "As `s3://bucket/prefix`."),
        key("secret", Shape::Text, "The Kubernetes Secret with its credentials."),
    ],
};

pub(crate) static SECRET: Table = Table {
    what: "a secret",
    example: "write { secret = \"NAME\", key = \"KEY\" }",
    keys: &[
        key("env", Shape::Text, "An environment variable of mlctl; in the user's own config only."),
        key("file", Shape::Text, "A file; in the user's own config only."),
        key("command", TEXTS, "A command; in the user's own config only."),
        key("secret", Shape::Text, "A Kubernetes Secret."),
        key("key", Shape::Text, "The key in the Kubernetes Secret."),
    ],
};

pub(crate) static PLACEMENT: Table = Table {
    what: "a step of a context",
    example: "write { resources = { gpu = 1 } }",
    keys: &[
        RESOURCES_KEY,
        key("node-selector", TEXT_MAP, "Labels that the nodes must have."),
        key("tolerations", TOLERATIONS, "Taints that it tolerates besides, as Kubernetes writes them."),
    ],
};

/// What other tools call the same thing.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("cmd", "command"),
    ("args", "command"),
    ("run", "script"),
    ("bash", "script"),
    ("deps", "inputs"),
    ("outs", "outputs"),
    ("depends_on", "needs"),
    ("depends-on", "needs"),
    ("depends", "needs"),
    ("after", "needs"),
    ("requires", "needs"),
    ("if", "when"),
    ("condition", "when"),
    ("foreach", "matrix"),
    ("for_each", "matrix"),
    ("image", "environment"),
    ("container", "environment"),
    ("conda", "environment"),
    ("retries", "retry"),
    ("attempts", "limit"),
    ("count", "limit"),
    ("delay", "backoff"),
    ("wait", "backoff"),
    ("step", "from"),
    ("output", "from"),
    ("source", "from"),
    ("variables", "env"),
    ("file", "path"),
    ("file", "at"),
    ("path", "at"),
    ("dst", "at"),
    ("context", "dir"),
    ("storage", "disk"),
    ("ram", "memory"),
];

pub(crate) const PARAM_TYPES: &[&str] = &["string", "int", "float", "bool", "list"];
pub(crate) const OUTPUT_TYPES: &[&str] = &["string", "int", "float", "bool", "json"];
pub(crate) const OUTPUT_KINDS: &[&str] = &["metrics", "plots", "model"];
pub(crate) const SHELLS: &[&str] = &["sh", "bash"];
pub(crate) const ENGINES: &[&str] = &["process", "docker", "argo"];
pub(crate) const IMAGES: &[&str] = &["kind", "registry"];
pub(crate) const POD_SECURITY: &[&str] = &["baseline", "restricted"];
