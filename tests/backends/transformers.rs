//! Whole transformers of each published kind.

use crate::Case;
use crate::probe::{Measured, module, tensor};
use burn::tensor::{Device, Tensor};
use langevin::models::{
    DiTConfig, FluxConfig, Labels, MdmConfig, PixArtConfig, PriorConfig, Sd3Config, Tap, TextCondition,
};

const OK: &str = "a valid configuration";
const FITS: &str = "a valid input";
const DIT: &str = include_str!("../fixtures/models/dit/config.json");
const PIXART: &str = include_str!("../fixtures/models/pixart_alpha/config.json");
const SD35: &str = include_str!("../fixtures/models/sd35_dual_qknorm/config.json");
const PRIOR: &str = include_str!("../fixtures/models/prior/config.json");
const FLUX: &str = include_str!("../fixtures/models/flux_dev/config.json");

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([0.2, 0.7], device)
}

/// Six tokens of text with ten channels each; vectors on the device of the input.
fn text(device: &Device) -> TextCondition {
    TextCondition::new(tensor([2, 6, 10], 5, device))
}

fn dit(device: &Device) -> Measured {
    let network = DiTConfig::from_json(DIT).expect(OK).init(device).expect(OK);
    module(network, [2, 4, 8, 8], device, |network, x| {
        let labels = Labels::optional([Some(3), None]);
        network.forward_with(x.clone(), time(&x.device()) * 900.0, &labels, &mut Tap::none()).expect(FITS)
    })
}

fn pixart(device: &Device) -> Measured {
    let network = PixArtConfig::from_json(PIXART).expect(OK).init(device).expect(OK);
    module(network, [2, 4, 8, 8], device, |network, x| {
        let device = x.device();
        let mask = Tensor::<2>::from_data([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [1.0; 6]], &device);
        let text = text(&device).mask(mask).sizes([vec![8.0, 6.0, 1.3], vec![4.0, 4.0, 1.0]]);
        network.forward_with(x, time(&device) * 900.0, &text, &mut Tap::none()).expect(FITS)
    })
}

fn sd3(device: &Device) -> Measured {
    let network = Sd3Config::from_json(SD35).expect(OK).init(device).expect(OK);
    module(network, [2, 4, 8, 12], device, |network, x| {
        let device = x.device();
        let text = text(&device).pooled(tensor([2, 12], 6, &device));
        network.forward_with(x, time(&device) * 900.0, &text, &mut Tap::none()).expect(FITS)
    })
}

fn flux(device: &Device) -> Measured {
    let network = FluxConfig::from_json(FLUX).expect(OK).init(device).expect(OK);
    module(network, [2, 2, 4, 6], device, |network, x| {
        let device = x.device();
        // Small numbers: angles of thousands are known to 1e-4 only.
        let text = text(&device).pooled(tensor([2, 12], 6, &device)).guidance([0.01, 0.02]);
        network.forward_latents(x, time(&device) * 0.1, &text, &mut Tap::none()).expect(FITS)
    })
}

fn prior(device: &Device) -> Measured {
    let network = PriorConfig::from_json(PRIOR).expect(OK).init(device).expect(OK);
    module(network, [2, 10], device, |network, x| {
        let device = x.device();
        let mask = Tensor::<2>::from_data([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [1.0; 7]], &device);
        let text = TextCondition::new(tensor([2, 7, 10], 5, &device)).mask(mask).pooled(tensor([2, 10], 6, &device));
        let y = network.forward_with(x, time(&device) * 900.0, &text, &mut Tap::none()).expect(FITS);
        network.post_process(y).expect(FITS)
    })
}

fn mdm(device: &Device) -> Measured {
    let config = MdmConfig::new(5, 3).width(16, 2).layers(2).text(10).dropout(0.0);
    module(config.init(device).expect(OK), [2, 5, 3, 12], device, |network, x| {
        let device = x.device();
        let text = Labels::embeddings(tensor([2, 10], 6, &device));
        network.forward_with(x, time(&device) * 900.0, &text, &mut Tap::none()).expect(FITS)
    })
}

/// The table.
pub fn table() -> Vec<Case> {
    let case = |item, settings, run: fn(&Device) -> Measured| Case { item, settings, run, limit: None };
    vec![
        case("DiT", "of the fixture", dit),
        case("PixArt", "with sizes and a mask", pixart),
        case("Sd3", "two attentions, normed", sd3),
        case("Flux", "with guidance, over latents", flux),
        case("Prior", "with a mask", prior),
        case("Mdm", "with a text", mdm),
    ]
}
