//! Networks of published configurations have the names and shapes of the original classes. `published/README.md` tells
//! where the numbers come from. Nothing is initialized: no memory is needed for the weights.

use burn::module::Module;
use burn::tensor::Device;
use langevin_models::weights::{Parameter, parameters};
use langevin_models::{
    AutoencoderKlConfig, DiTConfig, FluxConfig, ModelError, PixArtConfig, PriorConfig, Sd3Config,
    TinyAutoencoderConfig, UNet1dConfig, VqModelConfig,
};

/// A published checkpoint.
struct Row {
    /// Name of its configuration in `published/`.
    name: &'static str,
    /// The network's names and shapes.
    build: fn(&str) -> Result<Vec<Parameter>, ModelError>,
    /// Number of stored values.
    stored: usize,
    /// Hash of all names and shapes.
    hash: u64,
}

fn names<M: Module>(module: Result<M, ModelError>) -> Result<Vec<Parameter>, ModelError> {
    module.map(|module| parameters(&module))
}

fn unet_1d(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(UNet1dConfig::from_json(json)?.init(&Device::flex()))
}

fn kl(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(AutoencoderKlConfig::from_json(json)?.init(&Device::flex()))
}

fn vq(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(VqModelConfig::from_json(json)?.init(&Device::flex()))
}

fn tiny(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(TinyAutoencoderConfig::from_json(json)?.init(&Device::flex()))
}

fn dit(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(DiTConfig::from_json(json)?.init(&Device::flex()))
}

fn pixart(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(PixArtConfig::from_json(json)?.init(&Device::flex()))
}

fn sd3(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(Sd3Config::from_json(json)?.init(&Device::flex()))
}

fn flux(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(FluxConfig::from_json(json)?.init(&Device::flex()))
}

fn prior(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(PriorConfig::from_json(json)?.init(&Device::flex()))
}

const ROWS: &[Row] = &[
    Row { name: "dance-diffusion-maestro-150k", build: unet_1d, stored: 227_699_418, hash: 0xe50f_7cfc_4dff_a6ac },
    Row { name: "hopper-medium-v2-unet-hor32", build: unet_1d, stored: 3_956_302, hash: 0x646d_2ff8_41f2_d6b4 },
    Row {
        name: "hopper-medium-v2-value-function-hor32",
        build: unet_1d,
        stored: 2_294_817,
        hash: 0xdbab_6187_2585_fe8b,
    },
    Row { name: "sd-vae-ft-mse", build: kl, stored: 83_653_863, hash: 0x2af9_e099_9bbf_86a1 },
    Row { name: "sdxl-vae", build: kl, stored: 83_653_863, hash: 0x2af9_e099_9bbf_86a1 },
    Row { name: "stable-diffusion-3-medium-vae", build: kl, stored: 83_819_683, hash: 0xd6c7_7cd2_f431_426c },
    Row { name: "flux-1-vae", build: kl, stored: 83_819_683, hash: 0xd6c7_7cd2_f431_426c },
    Row { name: "taesd", build: tiny, stored: 2_445_063, hash: 0xcd2b_f10e_56a8_c896 },
    Row { name: "taesd3", build: tiny, stored: 2_458_899, hash: 0x9ea7_67d2_c5df_fe5d },
    Row { name: "kandinsky-2-1-movq", build: vq, stored: 67_832_495, hash: 0xfb45_1a43_0ba6_9836 },
    Row { name: "ldm-celebahq-256-vqvae", build: vq, stored: 55_322_782, hash: 0x85a5_94dd_a148_8477 },
    Row { name: "dit-xl-2-256", build: dit, stored: 749_826_464, hash: 0x76dd_7cf3_c77b_44dc },
    Row { name: "dit-xl-2-512", build: dit, stored: 749_826_464, hash: 0x76dd_7cf3_c77b_44dc },
    Row { name: "pixart-sigma-xl-2-1024-ms", build: pixart, stored: 610_856_096, hash: 0x4ba8_9dcd_cbf4_a393 },
    Row { name: "pixart-xl-2-1024-ms", build: pixart, stored: 611_349_152, hash: 0x0051_05a0_21c9_772f },
    Row { name: "pixart-xl-2-512x512", build: pixart, stored: 610_856_096, hash: 0x4ba8_9dcd_cbf4_a393 },
    Row { name: "stable-diffusion-3-medium", build: sd3, stored: 2_084_951_104, hash: 0x1a4b_dc07_dce4_b707 },
    Row { name: "stable-diffusion-3.5-large", build: sd3, stored: 8_146_280_768, hash: 0x7d9c_5a0f_fcfb_5b1a },
    Row { name: "stable-diffusion-3.5-medium", build: sd3, stored: 2_469_663_936, hash: 0xe9b0_5901_1569_3c1f },
    Row { name: "flux.1-dev", build: flux, stored: 11_901_408_320, hash: 0x8d4c_a8ec_e04a_a4f9 },
    Row { name: "flux.1-fill-dev", build: flux, stored: 11_902_391_360, hash: 0x7683_3034_f8fc_645a },
    Row { name: "flux.1-schnell", build: flux, stored: 11_891_178_560, hash: 0x79b4_7e47_0740_6e2a },
    Row { name: "kandinsky-2-2-prior", build: prior, stored: 1_026_225_920, hash: 0x04d0_5720_5604_c76f },
    Row { name: "karlo-v1-alpha-prior", build: prior, stored: 1_022_030_080, hash: 0x4da9_0232_3780_f543 },
    Row { name: "shap-e-prior", build: prior, stored: 315_697_664, hash: 0xf926_236d_4c9c_7c1d },
];

/// FNV-1a of the sorted lines `name:[shape]`.
fn hash(parameters: &[Parameter]) -> u64 {
    let mut lines: Vec<String> = parameters.iter().map(|p| format!("{}:{:?}\n", p.name, p.shape)).collect();
    lines.sort();
    let step = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    lines.concat().bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn json(name: &str) -> String {
    let path = format!("{}/tests/published/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn networks_have_the_names_and_shapes_of_their_checkpoints() {
    for row in ROWS {
        let found = (row.build)(&json(row.name)).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        let stored: usize = found.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(stored, row.stored, "{}", row.name);
        assert_eq!(hash(&found), row.hash, "{}: {:#018x}", row.name, hash(&found));
    }
}

#[test]
fn every_configuration_is_in_the_table() {
    let folder = format!("{}/tests/published", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(ROWS.iter().any(|row| row.name == name), "{name} has no row");
        }
    }
}
