//! Networks of published configurations have the names and shapes of the original classes. `published/README.md` tells
//! where the numbers come from. Nothing is initialized: no memory is needed for the weights.

use burn::module::Module;
use burn::tensor::Device;
use langevin_models::autoencoder::AutoencoderKlTemporalDecoderConfig;
use langevin_models::text::{BertConfig, ClipTextConfig, ClipVisionConfig, T5EncoderConfig};
use langevin_models::unet::video::{MotionAdapterConfig, UNet3dConditionalConfig, UNetSpatioTemporalConfig};
use langevin_models::weights::{Parameter, parameters};
use langevin_models::{
    AutoencoderKlConfig, ControlNetConfig, DiTConfig, FluxConfig, MdmConfig, ModelError, PixArtConfig, PriorConfig,
    Sd3Config, T2iAdapterConfig, TinyAutoencoderConfig, UNet1dConfig, UNet2dConditionalConfig, UNet2dConfig,
    VqModelConfig,
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

fn unet_2d(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(UNet2dConfig::from_json(json)?.init(&Device::flex()))
}

fn unet_2d_conditional(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(UNet2dConditionalConfig::from_json(json)?.init(&Device::flex()))
}

fn controlnet(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(ControlNetConfig::from_json(json)?.init(&Device::flex()))
}

fn adapter(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(T2iAdapterConfig::from_json(json)?.init(&Device::flex()))
}

fn unet_3d(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(UNet3dConditionalConfig::from_json(json)?.init(&Device::flex()))
}

fn motion_adapter(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(MotionAdapterConfig::from_json(json)?.init(&Device::flex()))
}

fn unet_spatio_temporal(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(UNetSpatioTemporalConfig::from_json(json)?.init(&Device::flex()))
}

fn temporal_decoder(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(AutoencoderKlTemporalDecoderConfig::from_json(json)?.init(&Device::flex()))
}

fn clip_text(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(ClipTextConfig::from_json(json)?.init(&Device::flex()))
}

fn clip_vision(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(ClipVisionConfig::from_json(json)?.init(&Device::flex()))
}

fn t5(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(T5EncoderConfig::from_json(json)?.init(&Device::flex()))
}

fn bert(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(BertConfig::from_json(json)?.init(&Device::flex()))
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

fn mdm(json: &str) -> Result<Vec<Parameter>, ModelError> {
    names(MdmConfig::from_json(json)?.init(&Device::flex()))
}

const ROWS: &[Row] = &[
    Row {
        name: "animatediff-motion-adapter-v1-5-2",
        build: motion_adapter,
        stored: 453_813_440,
        hash: 0x55b9_5e80_3e83_01e1,
    },
    Row { name: "dance-diffusion-maestro-150k", build: unet_1d, stored: 227_699_418, hash: 0xe50f_7cfc_4dff_a6ac },
    Row { name: "hopper-medium-v2-unet-hor32", build: unet_1d, stored: 3_956_302, hash: 0x646d_2ff8_41f2_d6b4 },
    Row {
        name: "hopper-medium-v2-value-function-hor32",
        build: unet_1d,
        stored: 2_294_817,
        hash: 0xdbab_6187_2585_fe8b,
    },
    Row { name: "ddpm-celebahq-256", build: unet_2d, stored: 113_673_219, hash: 0x8598_df1e_7352_a511 },
    Row { name: "ddpm-church-256", build: unet_2d, stored: 113_673_219, hash: 0x8598_df1e_7352_a511 },
    Row { name: "ddpm-cifar10-32", build: unet_2d, stored: 35_746_307, hash: 0x269d_58ec_26a9_c5b7 },
    Row { name: "diffusers-cd_bedroom256_l2", build: unet_2d, stored: 526_304_771, hash: 0x29f8_9b19_83bd_dedd },
    Row { name: "diffusers-cd_imagenet64_l2", build: unet_2d, stored: 295_899_267, hash: 0xac6a_83fd_0019_db81 },
    Row { name: "ldm-celebahq-256-unet", build: unet_2d, stored: 274_056_163, hash: 0x3ffa_09f9_4daf_8694 },
    Row { name: "ncsnpp-celebahq-256", build: unet_2d, stored: 65_574_549, hash: 0x4eab_9200_80d7_ef60 },
    Row { name: "ncsnpp-ffhq-1024", build: unet_2d, stored: 105_785_896, hash: 0xb83a_1082_19ab_42b2 },
    Row {
        name: "stable-diffusion-v1-5-unet",
        build: unet_2d_conditional,
        stored: 859_520_964,
        hash: 0x2302_5904_034b_0e80,
    },
    Row {
        name: "stable-diffusion-v1-5-inpainting-unet",
        build: unet_2d_conditional,
        stored: 859_535_364,
        hash: 0x6077_6246_c4a8_3a07,
    },
    Row {
        name: "stable-diffusion-2-1-unet",
        build: unet_2d_conditional,
        stored: 865_910_724,
        hash: 0x0307_226f_6243_8c48,
    },
    Row {
        name: "stable-diffusion-2-1-unclip-unet",
        build: unet_2d_conditional,
        stored: 870_173_124,
        hash: 0x7ad7_20ce_8e5f_3ef9,
    },
    Row {
        name: "sd-x2-latent-upscaler-unet",
        build: unet_2d_conditional,
        stored: 372_560_645,
        hash: 0x76e8_b83d_9d74_b10d,
    },
    Row {
        name: "stable-diffusion-x4-upscaler-unet",
        build: unet_2d_conditional,
        stored: 473_398_020,
        hash: 0x0b2e_7cbe_03ba_2139,
    },
    Row {
        name: "stable-diffusion-xl-base-unet",
        build: unet_2d_conditional,
        stored: 2_567_463_684,
        hash: 0xe8f0_36f1_a669_4812,
    },
    Row {
        name: "stable-diffusion-xl-refiner-unet",
        build: unet_2d_conditional,
        stored: 2_259_526_660,
        hash: 0xfb99_ae2c_04ce_d7ae,
    },
    Row {
        name: "lcm-dreamshaper-v7-unet",
        build: unet_2d_conditional,
        stored: 859_602_884,
        hash: 0x26d1_2951_15c3_3975,
    },
    Row { name: "if-i-m-unet", build: unet_2d_conditional, stored: 371_605_830, hash: 0x9edb_45b0_2d13_b334 },
    Row { name: "if-i-l-unet", build: unet_2d_conditional, stored: 935_365_830, hash: 0x16ee_a287_ae58_0aba },
    Row { name: "if-i-xl-unet", build: unet_2d_conditional, stored: 4_304_695_110, hash: 0x2d91_f554_a48d_bad4 },
    Row { name: "kandinsky-2-1-unet", build: unet_2d_conditional, stored: 1_228_661_768, hash: 0x9137_2b19_3000_88e2 },
    Row {
        name: "kandinsky-2-2-decoder-unet",
        build: unet_2d_conditional,
        stored: 1_253_057_288,
        hash: 0x79d5_0354_37b4_e4c7,
    },
    Row { name: "sd-controlnet-canny", build: controlnet, stored: 361_279_120, hash: 0x340b_c081_fa90_794f },
    Row { name: "controlnet-canny-sdxl-1.0", build: controlnet, stored: 1_251_014_160, hash: 0xe413_5397_cd2e_f442 },
    Row { name: "t2iadapter-canny-sd15v2", build: adapter, stored: 77_000_640, hash: 0x2f60_7821_055a_87d1 },
    Row { name: "t2i-adapter-canny-sdxl-1.0", build: adapter, stored: 79_028_160, hash: 0x2e42_6d52_7279_fdc4 },
    Row {
        name: "stable-video-diffusion-img2vid-unet",
        build: unet_spatio_temporal,
        stored: 1_524_623_082,
        hash: 0x7d03_a10a_435a_c07a,
    },
    Row {
        name: "stable-video-diffusion-img2vid-vae",
        build: temporal_decoder,
        stored: 97_742_847,
        hash: 0x112b_0bb4_0ff8_59ca,
    },
    Row { name: "text-to-video-ms-1.7b-unet", build: unet_3d, stored: 1_411_233_860, hash: 0x3d67_c223_1f8b_e76b },
    Row { name: "all-minilm-l6-v2", build: bert, stored: 22_713_216, hash: 0x5520_11af_078a_781b },
    Row { name: "clip-vit-large-patch14-vision", build: clip_vision, stored: 303_966_208, hash: 0x35d4_39c7_62d2_07c6 },
    Row { name: "ip-adapter-image-encoder", build: clip_vision, stored: 632_076_800, hash: 0xc1db_129a_4387_f784 },
    Row {
        name: "stable-diffusion-2-1-text-encoder",
        build: clip_text,
        stored: 340_387_840,
        hash: 0xcddd_d42e_17a2_ce47,
    },
    Row {
        name: "stable-diffusion-v1-5-text-encoder",
        build: clip_text,
        stored: 123_060_480,
        hash: 0x76b0_f2f5_b36d_838d,
    },
    Row {
        name: "stable-diffusion-xl-text-encoder-2",
        build: clip_text,
        stored: 694_659_840,
        hash: 0x20fe_357b_fd64_1d6a,
    },
    Row { name: "t5-small", build: t5, stored: 35_330_816, hash: 0x7a57_6458_bcff_79c3 },
    Row { name: "t5-v1-1-xxl-encoder", build: t5, stored: 4_762_310_656, hash: 0x3466_ef30_f2cd_8aff },
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
    Row { name: "mdm-humanml-trans-enc-512", build: mdm, stored: 23_000_327, hash: 0x9668_b92d_ced7_9ff2 },
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
fn a_key_more_is_named() {
    for row in ROWS {
        let mut config: serde_json::Value = serde_json::from_str(&json(row.name)).unwrap();
        config["key_of_nobody"] = serde_json::json!(1);
        let error = (row.build)(&config.to_string()).unwrap_err();
        assert!(
            matches!(&error, ModelError::UnknownKeys { keys, .. } if keys == &["key_of_nobody"]),
            "{}: {error}",
            row.name
        );
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
