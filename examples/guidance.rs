//! What guidance does to samples: one class of a mixture in the plane, with exact denoisers, guided in seven ways.
//!
//! `cargo run --release --example guidance`
//!
//! Writes `out/guidance.png`. Nothing is trained.

use clap::Parser;
use langevin::core::denoiser::Projection;
use langevin::core::exact::{ExactDenoiser, GaussianMixture, Posterior};
use langevin::prelude::*;
use plotters::prelude::*;
use std::error::Error;
use std::path::{Path, PathBuf};

#[derive(Parser)]
struct Options {
    /// The scale of guidance; 1 is none.
    #[arg(long, default_value_t = 4.0)]
    scale: f64,
    /// The scale of autoguidance.
    #[arg(long, default_value_t = 2.0)]
    auto: f64,
    /// The picture.
    #[arg(long, default_value = "out/guidance.png")]
    out: PathBuf,
}

/// Three spots of each class, the second to the right of the first.
const SPOTS: [[f64; 2]; 6] = [[-0.4, 1.1], [-1.1, 0.0], [-0.4, -1.1], [0.5, 1.1], [-0.2, 0.0], [0.5, -1.1]];

/// The mixture of some spots, each with its own spread and some blur in addition: a network that has not learned it well.
fn mixture(spots: &[[f64; 2]], blur: f64) -> Result<GaussianMixture, Box<dyn Error>> {
    let variance = 0.012 + blur;
    let means = spots.iter().map(|spot| spot.to_vec()).collect();
    let covariances = vec![vec![variance, 0.0, 0.0, variance]; spots.len()];
    Ok(GaussianMixture::new(vec![1.0 / spots.len() as f64; spots.len()], means, covariances)?)
}

fn network(spots: &[[f64; 2]], blur: f64) -> Result<ExactDenoiser<GaussianMixture>, Box<dyn Error>> {
    Ok(mixture(spots, blur)?.denoiser(Prediction::Velocity)?)
}

fn main() -> Result<(), Report> {
    let options = Options::parse();
    // Two denoisers where a network would be asked with and without its class: `bound.guided(Labels::none(1), scale)`.
    let (class, all) = (network(&SPOTS[..3], 0.0)?, network(&SPOTS, 0.0)?);
    let guided = |scale| DenoiserExt::<2>::autoguided(&class, &all, scale);
    let (blurred, worse) = (network(&SPOTS[..3], 0.03)?, network(&SPOTS[..3], 0.12)?);

    let ways: Vec<(String, Box<dyn Denoiser<2> + '_>)> = vec![
        ("no guidance".into(), Box::new(&class)),
        (format!("guidance, scale {}", options.scale), Box::new(guided(options.scale)?)),
        ("the same for 0.1 < σ/α < 1".into(), Box::new(guided(options.scale)?.between(0.1, 1.0)?)),
        ("CFG++, λ = 0.4".into(), Box::new(guided(0.4)?.plus_plus()?)),
        (
            "projected".into(),
            Box::new(guided(options.scale)?.projected(Projection::new().threshold(0.3)?.momentum(-0.5)?)?),
        ),
        ("a blurred denoiser".into(), Box::new(&blurred)),
        (
            format!("led away from a worse one, {}", options.auto),
            Box::new(DenoiserExt::<2>::autoguided(&blurred, &worse, options.auto)?),
        ),
    ];

    let data = points(&mixture(&SPOTS, 0.0)?.sample(1500, 7).concat());
    let (plan, noise) =
        (Ddim::new().plan(&VpSde::default(), &Grid::uniform_lambda(60).ending(End::Range))?, Seeded::new(3));
    let mut panels = vec![("the data of both classes".to_owned(), Vec::new())];
    println!("{:<32} distance to the spots, share of the one in the middle (1/3 in the data)", "");
    for (name, denoiser) in &ways {
        let x = plan.start([600, 2], &**denoiser, &noise, Load::on(&device("cpu")?))?.finish()?;
        let samples = points(&x.try_to_vec_as::<f64>()?);
        let (distance, share) = measure(&samples);
        println!("{name:<32} {distance:.3}  {share:.2}");
        panels.push((name.clone(), samples));
    }
    draw(&data, &panels, &options.out)?;
    println!("the picture is {}", options.out.display());
    Ok(())
}

fn points(values: &[f64]) -> Vec<(f64, f64)> {
    values.chunks(2).map(|point| (point[0], point[1])).collect()
}

/// Mean distance of samples to the nearest spot of the first class, and the share of those that are nearest to its second.
fn measure(samples: &[(f64, f64)]) -> (f64, f64) {
    let (mut distance, mut middle) = (0.0, 0.0);
    for (x, y) in samples {
        let to = [0, 1, 2].map(|spot| (x - SPOTS[spot][0]).hypot(y - SPOTS[spot][1]));
        let nearest = to[0].min(to[1]).min(to[2]);
        distance += nearest;
        middle += f64::from(u8::from(to[1] == nearest));
    }
    (distance / samples.len() as f64, middle / samples.len() as f64)
}

/// One panel for each set of samples, over the data.
fn draw(data: &[(f64, f64)], panels: &[(String, Vec<(f64, f64)>)], path: &Path) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged")?;
    let root = BitMapBackend::new(path, (4 * 300, 2 * 300)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (title, samples)) in root.split_evenly((2, 4)).iter().zip(panels) {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .caption(title, ("sans-serif", 17))
            .build_cartesian_2d(-2.2..1.4, -1.8..1.8)?;
        chart.configure_mesh().disable_mesh().draw()?;
        let dots = |points: &[(f64, f64)], color: RGBAColor| {
            points.iter().map(|point| Circle::new(*point, 1, color.filled())).collect::<Vec<_>>()
        };
        chart.draw_series(dots(data, BLACK.mix(0.18)))?;
        chart.draw_series(dots(samples, RGBColor(30, 60, 140).mix(0.6)))?;
    }
    Ok(root.present()?)
}
